"""What exploration tells the gate: values that are right, silence where too little was explored."""

import dataclasses

import numpy as np
import pytest

from services.scheduler.core import verdict as gate
from services.scheduler.core.counterfactual import ScoredPages, weigh_pages
from services.scheduler.core.reward_model import RewardModel
from services.scheduler.core.verdict import Counterfactual
from tests.support.explored import SLOTS, explored_pages

DRAWS = 60
KINDS = ("ips", "snips", "dr")


def weigh(pages: ScoredPages) -> Counterfactual:
    found = weigh_pages(pages)
    assert found is not None
    return found


def test_intervals_hold_the_true_values_and_their_difference() -> None:
    covered = dict.fromkeys(KINDS, 0)
    for seed in range(DRAWS):
        pages, challenger, incumbent = explored_pages(seed)
        found = weigh(pages)
        for values, truth in (
            (found.challenger, challenger),
            (found.difference, challenger - incumbent),
        ):
            for kind in KINDS:
                interval = getattr(values, kind)
                covered[kind] += interval.low <= truth <= interval.high
    for kind in KINDS:
        assert covered[kind] >= 0.95 * 2 * DRAWS - 4 * np.sqrt(0.95 * 0.05 * 2 * DRAWS)


def test_the_difference_is_the_challengers_value_less_the_incumbents() -> None:
    pages, _, _ = explored_pages(1)
    found = weigh(pages)
    for kind in KINDS:
        values = [getattr(v, kind).mid for v in (found.challenger, found.incumbent)]
        assert getattr(found.difference, kind).mid == pytest.approx(values[0] - values[1])
    assert found.matches_count == 1_500
    assert found.explored_count == pages.explored.sum()
    assert found.positives_count == (pages.levels >= 2).sum()


def test_a_head_that_orders_as_the_incumbent_differs_by_nothing() -> None:
    pages, _, _ = explored_pages(2)
    same = dataclasses.replace(pages, challenger_scores=pages.incumbent_scores * 2 + 1)
    difference = weigh(same).difference
    assert (difference.ips.low, difference.ips.mid, difference.ips.high) == (0, 0, 0)
    assert difference.snips.mid == 0
    assert difference.dr.mid == pytest.approx(0, abs=1e-12)


def test_ips_is_what_counting_page_by_page_gives() -> None:
    pages, _, _ = explored_pages(3, pages=400, share=1.0)
    total = 0.0
    for page in range(400):
        at = np.flatnonzero(pages.slot_pages == page)
        best_first = at[np.argsort(-pages.challenger_scores[at])]
        for rank, slot in enumerate(best_first, start=1):
            if pages.ranks[slot] == rank and pages.levels[slot] >= 2:
                total += 1 / pages.propensities[slot] / np.log2(1 + rank)
    assert weigh(pages).challenger.ips.mid == pytest.approx(total / 400, abs=1e-9)


def test_only_the_first_ten_ranks_count() -> None:
    slots, pages_count = 12, 200
    ranks = np.tile(np.arange(1, slots + 1, dtype=np.int32), pages_count)
    late = np.where(ranks > gate.RANKS, 2, 0).astype(np.int32)
    scores = -ranks.astype(np.float64)
    pages = ScoredPages(
        seekers=np.arange(pages_count, dtype=np.int32),
        explored=np.ones(pages_count, np.bool_),
        slot_pages=np.repeat(np.arange(pages_count, dtype=np.int32), slots),
        ranks=ranks,
        propensities=np.full(len(ranks), 1 / slots),
        levels=late,
        challenger_scores=scores,
        incumbent_scores=scores,
    )
    found = weigh(pages)
    assert found.positives_count == 400
    assert found.challenger.ips.mid == 0


def test_equal_scores_follow_the_slots_order_and_not_where_they_were_shown() -> None:
    pages, _, _ = explored_pages(4, share=1.0)
    equal = dataclasses.replace(pages, challenger_scores=np.zeros_like(pages.challenger_scores))
    by_place = dataclasses.replace(
        pages, challenger_scores=-np.tile(np.arange(SLOTS, dtype=np.float64), 1_500)
    )
    assert weigh(equal).challenger.ips == weigh(by_place).challenger.ips


def test_too_little_exploration_says_nothing() -> None:
    pages, _, _ = explored_pages(5)
    for changed in (
        {"explored": np.zeros_like(pages.explored)},
        {"levels": np.full_like(pages.levels, -1)},
        {"seekers": pages.seekers % (gate.SEEKERS_MIN - 1)},
    ):
        assert weigh_pages(dataclasses.replace(pages, **changed)) is None
    answered = np.zeros(1_500, np.bool_)
    answered[np.flatnonzero(pages.explored)[: gate.ANSWERED_MIN]] = True
    enough = np.where(answered[pages.slot_pages], 0, -1).astype(np.int32)
    assert weigh_pages(dataclasses.replace(pages, levels=enough)) is not None
    answered[np.flatnonzero(answered)[0]] = False
    fewer = np.where(answered[pages.slot_pages], 0, -1).astype(np.int32)
    assert weigh_pages(dataclasses.replace(pages, levels=fewer)) is None


def test_the_reward_model_foretells_each_half_by_the_other() -> None:
    random = np.random.default_rng(6)
    features = np.column_stack([np.ones(4_000), random.normal(size=4_000)])
    chances = 1 / (1 + np.exp(1 - 2 * features[:, 1]))
    rewards = (random.random(4_000) < chances).astype(np.float64)
    side = np.arange(4_000) % 2 == 1
    found = RewardModel(features, rewards, side).expect(features)
    assert np.abs(found - chances).max() < 0.06
    other = np.where(side, rewards, 0.0)  # what the first half earned cannot move its own forecast
    again = RewardModel(features, other, side).expect(features)
    assert again[~side] == pytest.approx(found[~side])
    assert np.abs(again[side] - found[side]).max() > 0.1
