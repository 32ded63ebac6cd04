"""What may end a run's attempt.

TrainerError
├── LeaseLostError
├── RunCancelledError
└── RunPausedError
"""


class TrainerError(Exception):
    """Base of all."""


class LeaseLostError(TrainerError):
    """Another trainer may hold the run by now: nothing that this one does counts any more."""


class RunCancelledError(TrainerError):
    """The run was called off."""


class RunPausedError(TrainerError):
    """The run is to go on later, from the checkpoint of this moment."""
