"""What the dialect calls a run's state: one table, total over all states."""

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

KNOWN = frozenset({*STATUSES.values(), "UNKNOWN"})
"""What a list may be asked for; nothing is ever UNKNOWN here."""
