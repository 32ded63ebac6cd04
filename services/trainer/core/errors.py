"""What may end a run's attempt.

TrainerError
├── FileInvalidError
├── LeaseLostError
├── RunCancelledError
└── RunPausedError
"""


class TrainerError(Exception):
    """Base of all."""


class FileInvalidError(TrainerError):
    """A file cannot be used: trying again would end the same."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LeaseLostError(TrainerError):
    """Another trainer may hold the run by now: nothing that this one does counts any more."""


class RunCancelledError(TrainerError):
    """The run was called off."""


class RunPausedError(TrainerError):
    """The run is to go on later, from the checkpoint of this moment."""
