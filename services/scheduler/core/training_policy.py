"""When a domain's runs start by themselves: the mesh's defaults, and what its tenant chose."""

import datetime
from dataclasses import dataclass

from services.scheduler.core.errors import FieldInvalidError
from services.scheduler.core.run import Trigger

BUDGET_TRIPLETS_MAX = 1_000_000_000
SECONDS_MAX = 365 * 24 * 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPolicy:
    """When a domain trains by itself."""

    triplets_budget: int
    """Pending triplets that start a run."""
    cool_down: datetime.timedelta
    """Time between an automatic run and the run before it."""
    interval: datetime.timedelta = datetime.timedelta()
    """Time after the last run at which one starts whatever the budget; zero for never."""

    def trigger(self, pending: int, age: datetime.timedelta | None) -> Trigger | None:
        """What starts a run now; `age` is the time since the last one, None if there was none."""
        if not pending or (age is not None and age < self.cool_down):
            return None
        if pending >= self.triplets_budget:
            return Trigger.AUTOMATIC
        if self.interval and (age is None or age >= self.interval):
            return Trigger.SCHEDULED
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """What a tenant chose for a domain; None leaves it to the mesh."""

    triplets_budget: int | None = None
    cool_down_seconds: int | None = None
    interval_seconds: int | None = None

    def over(self, defaults: TrainingPolicy) -> TrainingPolicy:
        """The policy that comes of it."""
        budget, cool_down, interval = (
            self.triplets_budget,
            self.cool_down_seconds,
            self.interval_seconds,
        )
        return TrainingPolicy(
            triplets_budget=defaults.triplets_budget if budget is None else budget,
            cool_down=defaults.cool_down if cool_down is None else _seconds(cool_down),
            interval=defaults.interval if interval is None else _seconds(interval),
        )


def check_choice(choice: PolicyChoice) -> None:
    """Refuses numbers out of bounds.

    Raises:
        FieldInvalidError: names the first one.
    """
    bounds = {
        "triplets_budget": (1, BUDGET_TRIPLETS_MAX),
        "cool_down_seconds": (0, SECONDS_MAX),
        "interval_seconds": (0, SECONDS_MAX),
    }
    for name, (low, high) in bounds.items():
        value = getattr(choice, name)
        if value is not None and not low <= value <= high:
            raise FieldInvalidError(name, f"must be {low} to {high:,}")


def _seconds(count: int) -> datetime.timedelta:
    return datetime.timedelta(seconds=count)
