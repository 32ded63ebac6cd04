"""When a domain trains by itself: budget, cool-down, interval, and what a tenant chose of them."""

import datetime

import pytest

from services.scheduler.core.errors import FieldInvalidError
from services.scheduler.core.run import Trigger
from services.scheduler.core.training_policy import PolicyChoice, TrainingPolicy, check_choice

MINUTE = datetime.timedelta(minutes=1)
DEFAULTS = TrainingPolicy(triplets_budget=1_000, cool_down=60 * MINUTE)
DAILY = TrainingPolicy(triplets_budget=1_000, cool_down=60 * MINUTE, interval=24 * 60 * MINUTE)


@pytest.mark.parametrize(
    ("policy", "pending", "age", "trigger"),
    [
        (DEFAULTS, 1_000, None, Trigger.AUTOMATIC),
        (DEFAULTS, 999, None, None),
        (DEFAULTS, 1_000, 59 * MINUTE, None),
        (DEFAULTS, 1_000, 60 * MINUTE, Trigger.AUTOMATIC),
        (DEFAULTS, 999, 10_000 * MINUTE, None),
        (DAILY, 1, None, Trigger.SCHEDULED),
        (DAILY, 1, 24 * 60 * MINUTE, Trigger.SCHEDULED),
        (DAILY, 1, 24 * 60 * MINUTE - MINUTE, None),
        (DAILY, 0, 10_000 * MINUTE, None),
        (DAILY, 1_000, 24 * 60 * MINUTE, Trigger.AUTOMATIC),
    ],
)
def test_a_run_is_due_by_budget_or_by_interval(
    policy: TrainingPolicy, pending: int, age: datetime.timedelta | None, trigger: Trigger | None
) -> None:
    assert policy.trigger(pending, age) is trigger


def test_the_cool_down_outlasts_a_shorter_interval() -> None:
    policy = TrainingPolicy(triplets_budget=1, cool_down=60 * MINUTE, interval=MINUTE)
    assert policy.trigger(5, 59 * MINUTE) is None


def test_what_is_not_chosen_is_the_meshs() -> None:
    assert PolicyChoice().over(DAILY) == DAILY
    chosen = PolicyChoice(triplets_budget=5, cool_down_seconds=0, interval_seconds=0).over(DAILY)
    zero = datetime.timedelta()
    assert chosen == TrainingPolicy(triplets_budget=5, cool_down=zero, interval=zero)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("triplets_budget", 0),
        ("triplets_budget", 1_000_000_001),
        ("cool_down_seconds", -1),
        ("interval_seconds", -1),
        ("interval_seconds", 31_536_001),
    ],
)
def test_a_number_out_of_bounds_is_named(name: str, value: int) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        check_choice(PolicyChoice(**{name: value}))
    assert caught.value.metadata["field"] == name


def test_the_bounds_themselves_are_good() -> None:
    check_choice(PolicyChoice())
    check_choice(PolicyChoice(triplets_budget=1, cool_down_seconds=0, interval_seconds=31_536_000))
