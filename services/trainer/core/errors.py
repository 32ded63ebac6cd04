"""What may end a run's attempt.

TrainerError
├── LeaseLostError
├── RunCancelledError
├── RunInvalidError
└── RunPausedError
"""


class TrainerError(Exception):
    """Base of all."""


class LeaseLostError(TrainerError):
    """Another trainer may hold the run by now: nothing that this one does counts any more."""


class RunCancelledError(TrainerError):
    """The run was called off."""


class RunInvalidError(TrainerError):
    """The run cannot succeed, however often it is tried: a file or its base is not to be used."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RunPausedError(TrainerError):
    """The run is to go on later, from the checkpoint of this moment."""
