"""What each head would have brought on the pages that were shown while the domain explored.

A page is ordered anew by a head's scores of the same people; the value of an order is the accepted
outcomes that it brings, each discounted by its rank as NDCG@10 discounts. Nobody who was not on the
page comes in: it is the order that is weighed here, not the choice.

Shapes: P pages, s slots.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.scheduler.core.off_policy import Estimate, Log, Policy, dr, ips, snips
from services.scheduler.core.reward_model import RewardModel
from services.scheduler.core.verdict import (
    ANSWERED_MIN,
    RANKS,
    SEEKERS_MIN,
    Counterfactual,
    Interval,
    Values,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

_POSITIVE_LEVEL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPages:
    """Pages as they were shown, scored by both heads.

    A page's slots stand in an order that has nothing to do with where they were shown: it decides
    between equal scores.
    """

    seekers: Integers
    """[P]"""
    explored: npt.NDArray[np.bool_]
    """[P]"""
    slot_pages: Integers
    """[s] Index of the page, ascending."""
    ranks: Integers
    """[s] Where each was shown, from 1."""
    propensities: Floats
    """[s]"""
    levels: Integers
    """[s] Of the outcome that names the match; -1 for none."""
    challenger_scores: Floats
    incumbent_scores: Floats


def weigh_pages(pages: ScoredPages) -> Counterfactual | None:
    """Estimates both heads' values; None where too little was explored to say anything."""
    answered = np.bincount(pages.slot_pages, pages.levels >= 0, minlength=len(pages.seekers)) > 0
    if (answered & pages.explored).sum() < ANSWERED_MIN:
        return None
    if len(np.unique(pages.seekers)) < SEEKERS_MIN:
        return None
    rewards = (pages.levels >= _POSITIVE_LEVEL).astype(np.float64)
    scores = np.stack([pages.challenger_scores, pages.incumbent_scores], axis=1)
    scores = (scores - scores.mean(axis=0)) / (scores.std(axis=0) + 1e-9)
    shown = pages.ranks - 1
    side = pages.seekers[pages.slot_pages] % 2 == 1
    model = RewardModel(_features(scores, shown), rewards, side)
    log = Log(
        pages_count=len(pages.seekers),
        pages=pages.slot_pages,
        ranks=shown,
        discounts=np.where(shown < RANKS, 1 / np.log2(shown + 2.0), 0.0),
        rewards=rewards,
        expected=model.expect(_features(scores, shown)),
    )
    challenger, incumbent = (
        _values(log, _policy(pages, order, scores, model))
        for order in (pages.challenger_scores, pages.incumbent_scores)
    )
    difference = {name: challenger[name] - incumbent[name] for name in challenger}
    return Counterfactual(
        matches_count=len(pages.seekers),
        explored_count=int(pages.explored.sum()),
        positives_count=int(rewards.sum()),
        challenger=_told(challenger, pages.seekers),
        incumbent=_told(incumbent, pages.seekers),
        difference=_told(difference, pages.seekers),
    )


def _policy(pages: ScoredPages, order: Floats, scores: Floats, model: RewardModel) -> Policy:
    """A head as a policy: each page in the order of its scores."""
    shown = pages.ranks - 1
    placed = np.lexsort((-order, pages.slot_pages))  # stable: equal scores stay as they stand
    starts = np.searchsorted(pages.slot_pages, pages.slot_pages, side="left")
    ranks = np.empty_like(shown)
    ranks[placed] = np.arange(len(shown)) - starts
    # Whom the head puts where the log shows somebody: the slot's own page, at the slot's rank.
    instead = placed[starts + shown]
    return Policy(
        weights=np.where(ranks == shown, 1 / pages.propensities, 0.0),
        expected=model.expect(_features(scores[instead], shown)),
    )


def _features(scores: Floats, shown: Integers) -> Floats:
    """[s, 4] What the reward model reads."""
    return np.column_stack([np.ones(len(shown)), scores, 1 / np.log2(shown + 2.0)])


def _values(log: Log, policy: Policy) -> dict[str, Estimate]:
    return {"ips": ips(log, policy), "snips": snips(log, policy), "dr": dr(log, policy)}


def _told(estimates: dict[str, Estimate], seekers: Integers) -> Values:
    told = {}
    for name, estimate in estimates.items():
        low, high = estimate.interval(seekers)
        told[name] = Interval(low, estimate.value, high)
    return Values(**told)
