"""Temporary."""


class TorchLearner:
    """Temporary."""

    def __init__(self, device: str) -> None:
        import torch  # noqa
