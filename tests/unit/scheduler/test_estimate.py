"""The estimate of a run's end: at least a minute, and ever closer to what runs take."""

from services.scheduler.core.estimate import PastRun, estimate_minutes


def test_it_is_never_less_than_a_minute() -> None:
    assert estimate_minutes([], 0, 0) == 1


def test_more_triplets_take_longer() -> None:
    assert estimate_minutes([], 10_000_000, 0) > estimate_minutes([], 1_000_000, 0)


def test_runs_ahead_are_waited_for() -> None:
    assert estimate_minutes([], 1_000_000, 3) > estimate_minutes([], 1_000_000, 0)


def test_it_learns_from_slow_runs() -> None:
    slow = [PastRun(4_000, 1_800.0)] * 20
    assert 25 <= estimate_minutes(slow, 4_218, 0) <= 35


def test_it_learns_from_fast_runs() -> None:
    slow_prior = estimate_minutes([], 5_000_000, 0)
    fast = [PastRun(5_000_000, 60.0)] * 20
    assert estimate_minutes(fast, 5_000_000, 0) < slow_prior / 4
