"""The gate: a challenger head must beat the one in use on outcomes that neither side learned from.

NDCG@10 is compared by a paired bootstrap over seekers (Efron 1979; pairs, because both heads rank
the same people); AUC and calibration may not get worse. What the gate saw and said is kept with the
head.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

GENERAL = "general"
"""Name of the incumbent of a domain without a head: the encoder alone."""

SEEKERS_MIN = 20
"""Fewer ranked seekers say too little."""
AUC_LOSS_MAX = 0.005
CALIBRATION_LOSS_MAX = 0.02
CALIBRATION_ERROR_MAX = 0.15
"""For a challenger whose incumbent gives no probabilities."""
ANSWERED_MIN = 100
"""Fewer explored matches with an outcome say too little; then exploration says nothing."""

RULES = (
    f"At least {SEEKERS_MIN} seekers of held-out outcomes have both a positive and another one.",
    "NDCG@10 is above the incumbent's with 95 % confidence, by paired bootstrap over seekers.",
    f"AUC is at most {AUC_LOSS_MAX} below the incumbent's.",
    (
        f"The calibration error is at most {CALIBRATION_LOSS_MAX} above the incumbent's, or at "
        f"most {CALIBRATION_ERROR_MAX} where the incumbent gives no probabilities."
    ),
    (
        f"Where {ANSWERED_MIN} explored matches have outcomes, its order of what was shown is not "
        "worth less than the incumbent's with 95 % confidence, by a doubly robust estimate."
    ),
)
"""What `judge` asks of a challenger, in words."""

RANKS = 10
DRAWS = 1_000
COUNTS_MAX = 4_000_000
"""Of draws times seekers, held at once: 32 MB, however many seekers there are."""
BINS = 10
_GAINS = np.array([0.0, 0.0, 1.0, 3.0])
"""By level: 2^relevance - 1 (Järvelin and Kekäläinen 2002) with accepted 1 and converted 2."""
_POSITIVE_LEVEL = 2


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate and its bounds."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a head ranks the held-out outcomes."""

    ndcg_at_10: Interval
    auc: Interval
    calibration_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Discounted accepted outcomes a match, by three estimators, with 95 % intervals."""

    ips: Interval
    snips: Interval
    dr: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """What both heads would have brought on the pages that were shown."""

    matches_count: int
    explored_count: int
    """Those shown in a random order."""
    positives_count: int
    """Accepted outcomes that name one of the matches."""
    challenger: Values
    incumbent: Values
    difference: Values
    """Challenger less incumbent, page by page."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the gate, and how a challenger did by it."""

    name: str
    passed: bool
    measured: float
    limit: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's word and the numbers behind it."""

    promoted: bool
    reasons: tuple[str, ...]
    incumbent: str
    challenger_quality: Quality
    incumbent_quality: Quality
    ndcg_at_10_gain: Interval
    auc_gain: Interval
    seekers_count: int
    outcomes_count: int
    rules: tuple[Rule, ...] = ()
    rollout_id: str = ""
    """What the head goes through instead of being promoted at once."""
    counterfactual: Counterfactual | None = None
    """None while too little was explored."""

    @property
    def result(self) -> str:
        """The verdict in a word."""
        return "promoted" if self.promoted else "rollout" if self.rollout_id else "held"

    @property
    def passed(self) -> bool:
        """Whether the head passed every rule; it may have been held all the same."""
        return self.promoted or (bool(self.rules) and all(rule.passed for rule in self.rules))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of n held-out outcomes, equal seekers standing together."""

    seekers: Integers
    levels: Integers
    challenger_scores: Floats
    incumbent_scores: Floats
    incumbent_calibrated: bool


def judge(
    evaluation: Evaluation,
    incumbent: str,
    seed: int,
    counterfactual: Counterfactual | None = None,
) -> Verdict:
    """Compares the two heads and says whether the challenger earned its place."""
    seekers, levels = evaluation.seekers, evaluation.levels
    _, index = np.unique(seekers, return_inverse=True)
    scores = (evaluation.challenger_scores, evaluation.incumbent_scores)

    ranked = _ranked_seekers(index, levels)
    ndcg = [_ndcg(index, levels, s)[ranked] for s in scores]
    auc = [_auc(levels, s, np.ones(len(s))) for s in scores]
    orders = [np.argsort(s, kind="stable") for s in scores]  # once: later sorts find it done
    by_score = [(index[o], levels[o], s[o]) for o, s in zip(orders, scores, strict=True)]
    means_of: list[list[Floats]] = []
    areas_of: list[list[Floats]] = []
    for counts in _draws(len(ranked), seed):
        means_of.append([_weighted_means(values, counts[:, ranked]) for values in ndcg])
        areas_of.append([_auc_draws(*rows, counts) for rows in by_score])
    ndcg_draws = [np.concatenate(side) for side in zip(*means_of, strict=True)]
    auc_draws = [np.concatenate(side) for side in zip(*areas_of, strict=True)]
    calibration = (
        _calibration_error(levels, scores[0]),
        _calibration_error(levels, scores[1]) if evaluation.incumbent_calibrated else None,
    )
    means = [float(values.mean()) if len(values) else 0.0 for values in ndcg]
    qualities = [
        Quality(
            ndcg_at_10=_interval(means[i], ndcg_draws[i], 2.5),
            auc=_interval(auc[i], auc_draws[i], 2.5),
            calibration_error=calibration[i],
        )
        for i in range(2)
    ]
    ndcg_gain = _interval(means[0] - means[1], ndcg_draws[0] - ndcg_draws[1], 5.0)
    auc_gain = _interval(auc[0] - auc[1], auc_draws[0] - auc_draws[1], 5.0)
    rules = _rules(len(ndcg[0]), ndcg_gain, auc_gain, *calibration)
    if counterfactual is not None:
        rules = (*rules, _explored_rule(counterfactual))
    passed = all(rule.passed for rule in rules)
    return Verdict(
        promoted=passed,
        reasons=tuple(rule.sentence for rule in rules if rule.passed == passed),
        incumbent=incumbent,
        challenger_quality=qualities[0],
        incumbent_quality=qualities[1],
        ndcg_at_10_gain=ndcg_gain,
        auc_gain=auc_gain,
        seekers_count=len(ndcg[0]),
        outcomes_count=len(levels),
        rules=rules,
        counterfactual=counterfactual,
    )


def _explored_rule(found: Counterfactual) -> Rule:
    gain = found.difference.dr
    sentence = (
        f"On {found.matches_count} matches, {found.explored_count} of them explored, its order is "
        f"worth {gain.mid:+.4f} discounted accepted outcomes a match, with 95 % confidence at most "
        f"{gain.high:+.4f}; that may not be below 0."
    )
    return Rule("counterfactual", gain.high >= 0, gain.high, 0.0, sentence)


def _rules(
    seekers_count: int,
    ndcg_gain: Interval,
    auc_gain: Interval,
    challenger_error: float,
    incumbent_error: float | None,
) -> tuple[Rule, ...]:
    error_max = (
        CALIBRATION_ERROR_MAX if incumbent_error is None else incumbent_error + CALIBRATION_LOSS_MAX
    )
    return (
        Rule(
            "seekers",
            seekers_count >= SEEKERS_MIN,
            seekers_count,
            SEEKERS_MIN,
            f"{seekers_count} seekers were ranked; at least {SEEKERS_MIN} are needed.",
        ),
        Rule(
            "ndcg_at_10",
            ndcg_gain.low > 0,
            ndcg_gain.low,
            0.0,
            (
                f"NDCG@10 gains {ndcg_gain.mid:+.4f}, with 95 % confidence more than "
                f"{ndcg_gain.low:+.4f}; that must be above 0."
            ),
        ),
        Rule(
            "auc",
            auc_gain.mid >= -AUC_LOSS_MAX,
            auc_gain.mid,
            -AUC_LOSS_MAX,
            f"AUC gains {auc_gain.mid:+.4f}; it may lose {AUC_LOSS_MAX} at most.",
        ),
        Rule(
            "calibration",
            challenger_error <= error_max,
            challenger_error,
            error_max,
            f"The calibration error is {challenger_error:.4f}; it may be {error_max:.4f} at most.",
        ),
    )


def _draws(seekers_count: int, seed: int) -> Iterator[Floats]:
    """How often each seeker is in each bootstrap draw, some draws at a time: [draws, seekers]."""
    if seekers_count == 0:
        yield np.zeros((DRAWS, 0))
        return
    chances = np.full(seekers_count, 1 / seekers_count)
    random = np.random.default_rng(seed)
    at_once = max(1, COUNTS_MAX // seekers_count)
    for start in range(0, DRAWS, at_once):
        size = min(at_once, DRAWS - start)
        yield random.multinomial(seekers_count, chances, size).astype(np.float64)


def _ranked_seekers(index: npt.NDArray[np.intp], levels: Integers) -> npt.NDArray[np.bool_]:
    """Seekers with both a positive and another outcome: for the rest every ranking is as good."""
    positives = np.bincount(index, levels >= _POSITIVE_LEVEL)
    totals = np.bincount(index)
    ranked: npt.NDArray[np.bool_] = (positives > 0) & (positives < totals)
    return ranked


def _ndcg(index: npt.NDArray[np.intp], levels: Integers, scores: Floats) -> Floats:
    """NDCG@10 of each seeker; 0 for one without positives. Ties are broken by a fixed shuffle."""
    shuffled = np.random.default_rng(0).permutation(len(scores))
    gains = _GAINS[levels]
    ideal = _dcg(index, gains, np.lexsort((-gains, index)))
    order = shuffled[np.lexsort((-scores[shuffled], index[shuffled]))]
    found = _dcg(index, gains, order)
    return np.divide(found, ideal, out=np.zeros_like(found), where=ideal > 0)


def _dcg(index: npt.NDArray[np.intp], gains: Floats, order: npt.NDArray[np.intp]) -> Floats:
    sorted_index = index[order]
    ranks = np.arange(len(order)) - np.searchsorted(sorted_index, sorted_index, side="left")
    discounts = np.where(ranks < RANKS, 1 / np.log2(ranks + 2.0), 0.0)
    return np.bincount(sorted_index, gains[order] * discounts).astype(np.float64)


def _auc(levels: Integers, scores: Floats, weights: Floats) -> float:
    """Weighted area under the ROC curve, ties counted half; 0.5 without both classes."""
    order = np.argsort(scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))
    positive = levels[order] >= _POSITIVE_LEVEL
    cum_positives = np.cumsum(weights[order] * positive)[ends]
    cum_negatives = np.cumsum(weights[order] * ~positive)[ends]
    if not len(ends) or not cum_positives[-1] or not cum_negatives[-1]:
        return 0.5
    below = np.concatenate([[0.0], cum_negatives[:-1]])
    at_level = np.diff(cum_positives, prepend=0.0)
    area = (at_level * (below + cum_negatives) / 2).sum()
    return float(area / (cum_positives[-1] * cum_negatives[-1]))


def _auc_draws(
    index: npt.NDArray[np.intp], levels: Integers, scores: Floats, counts: Floats
) -> Floats:
    return np.array([_auc(levels, scores, draw[index]) for draw in counts])


def _calibration_error(levels: Integers, probabilities: Floats) -> float:
    """Expected calibration error over ten equally filled bins (Guo et al. 2017)."""
    if not len(probabilities):
        return 0.0
    order = np.argsort(probabilities, kind="stable")
    positive = (levels >= _POSITIVE_LEVEL).astype(np.float64)
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    gaps = [abs(positive[b].mean() - probabilities[b].mean()) * len(b) for b in bins]
    return float(sum(gaps) / len(probabilities))


def _weighted_means(values: Floats, counts: Floats) -> Floats:
    totals = counts.sum(axis=1)
    means: Floats = np.divide(counts @ values, totals, out=np.zeros(len(totals)), where=totals > 0)
    return means


def _interval(mid: float, draws: Floats, tail_percent: float) -> Interval:
    low, high = np.percentile(draws, [tail_percent, 100 - tail_percent])
    return Interval(float(low), mid, float(high))
