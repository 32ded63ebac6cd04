"""What each dialect calls a run's state: one table a dialect, total over all states."""

from collections.abc import Mapping

from services.gateway.core.run import Run, RunState

State = RunState
Words = Mapping[RunState, tuple[str, str]]
"""By state: the status before the run has read its files, and after."""

OPENAI: Words = {
    State.QUEUED: ("validating_files", "queued"),
    State.STARTING: ("validating_files", "queued"),
    State.RUNNING: ("validating_files", "running"),
    State.EVALUATING: ("running", "running"),
    State.EXPORTING: ("running", "running"),
    State.PAUSING: ("validating_files", "running"),
    State.PAUSED: ("paused", "paused"),
    State.STOPPING: ("running", "running"),
    State.SUCCEEDED: ("succeeded", "succeeded"),
    State.STOPPED: ("succeeded", "succeeded"),
    State.CANCELLED: ("cancelled", "cancelled"),
    State.FAILED: ("failed", "failed"),
}

_HIDDEN = {"validating_files": "queued", "paused": "queued"}
"""OpenAI's statuses that TrueFoundry does not have."""

TRUEFOUNDRY: Words = {
    state: (_HIDDEN.get(before, before), _HIDDEN.get(after, after))
    for state, (before, after) in OPENAI.items()
}


def status_of(words: Words, run: Run) -> str:
    """What a dialect calls a run's state."""
    return words[run.state][run.files_read]
