"""What may end a run's attempt.

TrainerError
├── LeaseLostError
└── RunCancelledError
"""


class TrainerError(Exception):
    """Base of all."""


class LeaseLostError(TrainerError):
    """Another trainer may hold the run by now: nothing that this one does counts any more."""


class RunCancelledError(TrainerError):
    """The run was called off."""
