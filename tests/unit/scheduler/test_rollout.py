"""A rollout's moves: what its figures say at every step, and which moves there are."""

import dataclasses
import datetime

import pytest

from services.scheduler.core.errors import FieldInvalidError
from services.scheduler.core.rollout import (
    ACTIVE,
    MOVES,
    OPEN,
    Rollout,
    ShadowFigures,
    Step,
    first_step,
    next_move,
    rollout_id_of,
    total,
)
from services.scheduler.core.rollout_policy import (
    AT_ONCE,
    CanaryPolicy,
    RolloutPolicy,
    ShadowPolicy,
    check_policy,
)
from services.scheduler.core.sequential_test import ArmCounts

START = datetime.datetime(2026, 5, 17, 8, tzinfo=datetime.UTC)
SHADOW = ShadowPolicy(matches_min=10, seconds_min=60, seconds_max=600)
CANARY = CanaryPolicy(outcomes_min=100, seconds_min=60, seconds_max=600, loss_max=0.05)
BOTH = RolloutPolicy(shadow=SHADOW, canary=CANARY)


def rollout(step: Step, policy: RolloutPolicy = BOTH, **content: object) -> Rollout:
    """A rollout that has just reached its step."""
    made = Rollout(
        tenant="acme",
        domain="dating",
        rollout_id="ro_2026_05_17_002",
        head="u_acme.dating.2026-05-17.002",
        incumbent="u_acme.dating.2026-05-17.001",
        policy=policy,
        step=step,
        create_time=START,
        step_time=START,
    )
    return dataclasses.replace(made, **content)  # type: ignore[arg-type]


def after(made: Rollout, seconds: float) -> tuple[Step, str] | None:
    """What becomes of it so long after it reached its step."""
    move = next_move(made, START + datetime.timedelta(seconds=seconds))
    return None if move is None else (move.step, move.reason)


def arm(positives: int, seekers: int = 200) -> ArmCounts:
    """An arm of seekers with one outcome each."""
    return ArmCounts(
        matches_count=seekers,
        seekers_count=seekers,
        outcomes_count=seekers,
        positives_count=positives,
        outcomes_squared_sum=seekers,
        products_sum=positives,
        positives_squared_sum=positives,
    )


def test_a_rollout_begins_with_its_first_step_and_has_its_runs_number() -> None:
    assert AT_ONCE.at_once
    assert first_step(BOTH) is Step.SHADOW
    assert first_step(RolloutPolicy(canary=CANARY)) is Step.CANARY
    assert rollout_id_of("tr_2026_05_17_002") == "ro_2026_05_17_002"


def test_what_has_ended_stays_as_it_is() -> None:
    assert set(MOVES) == set(Step)
    for step, moves in MOVES.items():
        assert bool(moves) == (step in OPEN)
        assert step not in moves
    assert ACTIVE < OPEN


def test_shadow_goes_on_after_enough_matches_and_time() -> None:
    seen = rollout(Step.SHADOW, figures=ShadowFigures(matches_count=10))
    assert after(seen, 59) is None
    assert after(seen, 60) == (Step.CANARY, "")
    alone = dataclasses.replace(seen, policy=RolloutPolicy(shadow=SHADOW))
    assert after(alone, 60) == (
        Step.PROMOTED,
        "It ranked 10 matches unseen without an error.",
    )
    few = rollout(Step.SHADOW, figures=ShadowFigures(matches_count=9))
    assert after(few, 599) is None
    moved = after(few, 600)
    assert moved is not None
    assert moved[0] is Step.RETURNED
    assert "9 matches" in moved[1]
    assert "10 are needed" in moved[1]


@pytest.mark.parametrize("step", sorted(ACTIVE))
def test_an_error_ends_it_whatever_else_is_known(step: Step) -> None:
    figures = ShadowFigures(matches_count=99, errors_count=1, error="no such input")
    seen = rollout(step, figures=figures, challenger=arm(200), incumbent_arm=arm(0))
    assert after(seen, 0) == (
        Step.RETURNED,
        "The challenger failed in serving: no such input",
    )


def test_a_regression_ends_a_canary_at_any_time() -> None:
    worse = rollout(Step.CANARY, challenger=arm(20, 50), incumbent_arm=arm(180))
    moved = after(worse, 0)
    assert moved is not None
    assert moved[0] is Step.RETURNED
    assert moved[1].startswith("It has regressed: positive outcomes 0.4000 of 50 against 0.9000")


def test_a_challenger_that_is_as_good_is_promoted_after_enough_outcomes_and_time() -> None:
    good = rollout(Step.CANARY, challenger=arm(190), incumbent_arm=arm(140))
    assert after(good, 59) is None
    moved = after(good, 60)
    assert moved is not None
    assert moved[0] is Step.PROMOTED
    assert "loses less than 0.05" in moved[1]
    few = rollout(Step.CANARY, challenger=arm(90, 90), incumbent_arm=arm(50))
    assert after(few, 60) is None


@pytest.mark.parametrize(
    ("positives", "seekers", "end", "told"),
    [
        (100, 200, Step.PROMOTED, "does not look worse"),
        (91, 200, Step.PROMOTED, "does not look worse"),
        (80, 200, Step.RETURNED, "it looks worse"),
        (45, 90, Step.RETURNED, "each arm needs 100 outcomes"),
        (0, 0, Step.RETURNED, "each arm needs 100 outcomes"),
    ],
)
def test_when_the_time_is_up_what_is_there_decides(
    positives: int, seekers: int, end: Step, told: str
) -> None:
    seen = rollout(Step.CANARY, challenger=arm(positives, seekers), incumbent_arm=arm(100))
    assert after(seen, 599) is None
    moved = after(seen, 600)
    assert moved is not None
    assert moved[0] is end
    assert told in moved[1]


def test_looks_come_at_steps_of_a_hundredth_of_the_age() -> None:
    seen = rollout(Step.CANARY)
    assert seen.look_due(START)
    hour = datetime.timedelta(hours=1)
    looked = dataclasses.replace(seen, look_time=START + 100 * hour)
    assert not looked.look_due(START + 100.9 * hour)
    assert looked.look_due(START + 101 * hour)


def test_figures_of_several_processes_are_added() -> None:
    one = ShadowFigures(matches_count=3, overlap_sum=1.5, error="b", errors_count=1)
    other = ShadowFigures(matches_count=4, overlap_sum=0.5, error="a", errors_count=1)
    both = ShadowFigures(matches_count=7, overlap_sum=2.0, error="a", errors_count=2)
    assert total([one, other, ShadowFigures()]) == both
    assert total([]) == ShadowFigures()


@pytest.mark.parametrize(
    ("field", "policy"),
    [
        ("shadow.share", RolloutPolicy(shadow=ShadowPolicy(share=1.1))),
        ("shadow.matches_min", RolloutPolicy(shadow=ShadowPolicy(matches_min=0))),
        ("shadow.seconds_min", RolloutPolicy(shadow=ShadowPolicy(seconds_min=8, seconds_max=7))),
        ("canary.share", RolloutPolicy(canary=CanaryPolicy(share=1.0))),
        ("canary.share", RolloutPolicy(canary=CanaryPolicy(share=float("nan")))),
        ("canary.outcomes_min", RolloutPolicy(canary=CanaryPolicy(outcomes_min=0))),
        ("canary.seconds_max", RolloutPolicy(canary=CanaryPolicy(seconds_max=31_536_001))),
        ("canary.loss_max", RolloutPolicy(canary=CanaryPolicy(loss_max=0.0))),
    ],
)
def test_a_policy_out_of_bounds_is_named(field: str, policy: RolloutPolicy) -> None:
    check_policy(BOTH)
    check_policy(RolloutPolicy(shadow=ShadowPolicy(share=1.0)))
    with pytest.raises(FieldInvalidError) as caught:
        check_policy(policy)
    assert caught.value.metadata["field"] == field
