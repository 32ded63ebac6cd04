"""What the dialect calls a run's state: one table a version, total over all states."""

from collections.abc import Mapping

from services.gateway.core.run import RunState

State = RunState

STATUSES: Mapping[RunState, str] = {
    State.QUEUED: "REGISTERED",
    State.STARTING: "STARTING",
    State.RUNNING: "RUNNING",
    State.EVALUATING: "FINALIZING",
    State.EXPORTING: "FINALIZING",
    # There is no word for a pause: the job is under way.
    State.PAUSING: "RUNNING",
    State.PAUSED: "RUNNING",
    State.STOPPING: "STOPPING",
    State.SUCCEEDED: "COMPLETED",
    State.STOPPED: "STOPPED",
    State.CANCELLED: "CANCELLED",
    State.FAILED: "FAILED",
}

TUNING_STATUSES: Mapping[RunState, str] = {
    State.QUEUED: "QUEUED",
    State.STARTING: "QUEUED",
    State.RUNNING: "RUNNING",
    State.EVALUATING: "RUNNING",
    State.EXPORTING: "RUNNING",
    State.PAUSING: "RUNNING",
    State.PAUSED: "PAUSED",
    State.STOPPING: "RUNNING",
    State.SUCCEEDED: "SUCCEEDED",
    State.STOPPED: "SUCCEEDED",
    State.CANCELLED: "CANCELLED",
    State.FAILED: "FAILED",
}
"""The words of /v0.6, which are OpenAI's, in capitals."""

KNOWN = frozenset({*STATUSES.values(), "UNKNOWN"})
"""What a list may be asked for; nothing is ever UNKNOWN here."""
