"""How heads of a domain come into use: at once, or step by step as their tenant chose."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.scheduler.core.errors import FieldInvalidError

SECONDS_MAX = 365 * 24 * 3_600
COUNT_MAX = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPolicy:
    """How long a challenger ranks unseen, and how much of it."""

    share: float = 0.1
    """Of the first pages that are answered."""
    matches_min: int = 1_000
    seconds_min: int = 0
    seconds_max: int = 7 * 24 * 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPolicy:
    """Whom a challenger answers, and what decides about it."""

    share: float = 0.1
    """Of the seekers."""
    outcomes_min: int = 200
    """Of each arm, before a promotion."""
    seconds_min: int = 0
    """Before a promotion; a regression ends the step at any time."""
    seconds_max: int = 14 * 24 * 3_600
    loss_max: float = 0.02
    """By how much the share of positive outcomes may fall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """The steps of a domain's heads; without any they are promoted at once."""

    shadow: ShadowPolicy | None = None
    canary: CanaryPolicy | None = None

    @property
    def at_once(self) -> bool:
        """Whether a head that passes the gate needs no rollout."""
        return self.shadow is None and self.canary is None


AT_ONCE = RolloutPolicy()

_SECONDS = {"seconds_min": (0, SECONDS_MAX), "seconds_max": (1, SECONDS_MAX)}


def check_policy(policy: RolloutPolicy) -> None:
    """Refuses numbers out of bounds.

    Raises:
        FieldInvalidError: names the first one.
    """
    if policy.shadow is not None:
        _check_share("shadow.share", policy.shadow.share, below_one=False)
        _check_counts("shadow", policy.shadow, {"matches_min": (1, COUNT_MAX), **_SECONDS})
    if policy.canary is not None:
        _check_share("canary.share", policy.canary.share, below_one=True)
        _check_counts("canary", policy.canary, {"outcomes_min": (1, COUNT_MAX), **_SECONDS})
        _check_share("canary.loss_max", policy.canary.loss_max, below_one=False)


def _check_share(path: str, value: float, *, below_one: bool) -> None:
    if not 0 < value <= 1 or (below_one and value == 1):  # NaN fails too
        rule = "below 1" if below_one else "at most 1"
        raise FieldInvalidError(path, f"must be above 0 and {rule}")


def _check_counts(
    path: str, step: ShadowPolicy | CanaryPolicy, bounds: Mapping[str, tuple[int, int]]
) -> None:
    for name, (low, high) in bounds.items():
        if not low <= getattr(step, name) <= high:
            raise FieldInvalidError(f"{path}.{name}", f"must be {low} to {high:,}")
    if step.seconds_min > step.seconds_max:
        raise FieldInvalidError(f"{path}.seconds_min", "must not be above seconds_max")
