"""The confidence sequence keeps its word at all looks, however seekers differ."""

from collections.abc import Iterator

import numpy as np
import pytest

from services.scheduler.core.sequential_test import (
    ALPHA,
    EFFECTIVE_SEEKERS_MIN,
    ArmCounts,
    confidence_sequence,
)
from services.scheduler.core.verdict import Interval

EXPERIMENTS = 300
LOOKS = 40
MARGIN = 0.02
NAMES = (
    *("seekers_count", "outcomes_count", "positives_count"),
    *("outcomes_squared_sum", "products_sum", "positives_squared_sum"),
)


def counts(positives: list[int], outcomes: list[int]) -> ArmCounts:
    """An arm of seekers with so many outcomes each."""
    p, n = np.array(positives), np.array(outcomes)
    return ArmCounts(
        seekers_count=len(n),
        outcomes_count=int(n.sum()),
        positives_count=int(p.sum()),
        outcomes_squared_sum=float((n * n).sum()),
        products_sum=float((n * p).sum()),
        positives_squared_sum=float((p * p).sum()),
    )


def arms(random: np.random.Generator, rate: float, seekers: int) -> Iterator[list[ArmCounts]]:
    """The arms of all experiments at each look: tastes differ, and some come far more often."""
    shape = (EXPERIMENTS, seekers)
    tastes = random.beta(rate * 4, (1 - rate) * 4, shape)
    visits = random.gamma(0.5, 2.0, shape)
    n, p = np.zeros(shape, int), np.zeros(shape, int)
    for look in range(LOOKS):
        new = random.poisson(visits * (1 + look // 10))
        n, p = n + new, p + random.binomial(new, tastes)
        sums = ((n > 0).sum(1), n.sum(1), p.sum(1), (n * n).sum(1), (n * p).sum(1), (p * p).sum(1))
        yield [
            ArmCounts(**dict(zip(NAMES, row, strict=True))) for row in np.stack(sums, 1).tolist()
        ]


def experiments(gain: float, sizes: tuple[int, int], seed: int) -> list[list[Interval]]:
    """What is seen at each look of many rollouts whose challengers gain so much."""
    random = np.random.default_rng(seed)
    seen: list[list[Interval]] = [[] for _ in range(EXPERIMENTS)]
    looks = zip(arms(random, 0.4 + gain, sizes[0]), arms(random, 0.4, sizes[1]), strict=True)
    for challengers, incumbents in looks:
        for run, *pair in zip(seen, challengers, incumbents, strict=True):
            interval = confidence_sequence(*pair)
            if interval is not None:
                run.append(interval)
    return seen


@pytest.mark.parametrize("sizes", [(30, 270), (150, 150)])
def test_a_challenger_as_good_as_the_incumbent_is_hardly_ever_returned(
    sizes: tuple[int, int],
) -> None:
    """Of the two ways to be wrong this is one: over all looks together at most ALPHA."""
    runs = experiments(0.0, sizes, 1)
    assert sum(any(i.high < 0 for i in run) for run in runs) <= ALPHA * EXPERIMENTS
    assert sum(any(i.low > 0 or i.high < 0 for i in run) for run in runs) <= ALPHA * EXPERIMENTS


def test_a_challenger_that_loses_the_margin_is_hardly_ever_promoted() -> None:
    runs = experiments(-MARGIN, (150, 150), 2)
    assert sum(any(i.low > -MARGIN for i in run) for run in runs) <= ALPHA * EXPERIMENTS


def test_a_challenger_that_is_much_worse_is_found_out() -> None:
    runs = experiments(-0.2, (150, 150), 3)
    found = [next((at for at, i in enumerate(run) if i.high < 0), LOOKS) for run in runs]
    assert np.mean(np.array(found) < LOOKS) > 0.95
    assert np.median(found) < LOOKS / 2


def test_a_challenger_that_is_better_is_let_through() -> None:
    runs = experiments(0.15, (300, 300), 4)
    assert np.mean([any(i.low > -MARGIN for i in run) for run in runs]) > 0.9


def test_outcomes_of_few_seekers_weigh_as_few() -> None:
    """A hundred outcomes of one seeker each tell more than the same of ten seekers."""
    many = confidence_sequence(counts([0, 1] * 50, [1] * 100), counts([1] * 100, [1] * 100))
    few = confidence_sequence(counts([0, 10] * 5, [10] * 10), counts([10] * 10, [10] * 10))
    assert many is not None
    assert few is not None
    assert many.mid == few.mid == pytest.approx(-0.5)
    assert few.high - few.low > 2 * (many.high - many.low)


def test_too_few_seekers_say_nothing_and_equal_outcomes_are_not_certain() -> None:
    enough, none = counts([1] * EFFECTIVE_SEEKERS_MIN, [1] * EFFECTIVE_SEEKERS_MIN), counts([], [])
    assert confidence_sequence(enough, counts([0] * 9, [5] * 9)) is None
    assert confidence_sequence(none, none) is None
    same = confidence_sequence(enough, enough)
    assert same is not None
    assert same.low < -0.1 < same.mid == 0 < same.high
    opposite = confidence_sequence(counts([0] * 30, [5] * 30), counts([5] * 30, [5] * 30))
    assert opposite is not None
    assert opposite.low == -1 < opposite.high < -0.5
