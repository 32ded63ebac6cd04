"""The triplet rule: a pure function of the set of outcomes, with a closed-form count."""

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.triplets.core import triplet as rule
from services.triplets.core.triplet import NEGATIVES_MAX, count_triplets, form_triplets, hash_ids

USERS = 40

outcome = st.tuples(st.integers(0, 3), st.sampled_from([0.25, 1.0, 2.0]))
outcomes = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(6, USERS - 1)), outcome, max_size=120
)
HASHES = hash_ids(f"user-{number}" for number in range(USERS))


def formed(pairs: dict[tuple[int, int], tuple[int, float]]) -> dict[tuple[int, int, int], float]:
    """Triplets as (anchor, positive user, negative user) → weight."""
    seekers = np.array([pair[0] for pair in pairs], np.int32)
    candidates = np.array([pair[1] for pair in pairs], np.int32)
    levels = np.array([level for level, _ in pairs.values()], np.int8)
    weights = np.array([weight for _, weight in pairs.values()], np.float32)
    triplets = form_triplets(seekers, candidates, levels, weights, HASHES)
    return {
        (int(anchor), int(candidates[positive]), int(candidates[negative])): float(weight)
        for (anchor, positive, negative), weight in zip(
            triplets.indices, triplets.weights, strict=True
        )
    }


@given(outcomes)
def test_the_closed_form_counts_what_is_formed(
    pairs: dict[tuple[int, int], tuple[int, float]],
) -> None:
    levels_of: dict[int, list[int]] = {}
    for (seeker, _), (level, _) in pairs.items():
        levels_of.setdefault(seeker, [0, 0, 0, 0])[level] += 1
    assert sum(map(count_triplets, levels_of.values())) == len(formed(pairs))


@given(outcomes, st.randoms(use_true_random=False))
def test_the_order_of_outcomes_changes_nothing(
    pairs: dict[tuple[int, int], tuple[int, float]],
    random: Random,
) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    assert formed(pairs) == formed(dict(shuffled))


@given(outcomes)
def test_each_triplet_joins_a_stronger_and_a_weaker_outcome_of_one_seeker(
    pairs: dict[tuple[int, int], tuple[int, float]],
) -> None:
    for (anchor, positive, negative), weight in formed(pairs).items():
        stronger, stronger_weight = pairs[anchor, positive]
        weaker, weaker_weight = pairs[anchor, negative]
        assert stronger > weaker
        assert weight == stronger_weight * weaker_weight * (stronger - weaker)


@given(outcomes)
def test_a_stronger_outcome_meets_at_most_k_weaker_ones(
    pairs: dict[tuple[int, int], tuple[int, float]],
) -> None:
    met: dict[tuple[int, int], int] = {}
    for anchor, positive, _ in formed(pairs):
        met[anchor, positive] = met.get((anchor, positive), 0) + 1
    for (seeker, candidate), (level, _) in pairs.items():
        weaker = sum(1 for (s, _), (other, _) in pairs.items() if s == seeker and other < level)
        assert met.get((seeker, candidate), 0) == min(NEGATIVES_MAX, weaker)


def test_one_more_outcome_replaces_at_most_one_triplet_of_each_stronger_one() -> None:
    pairs = {(0, candidate): (2, 1.0) for candidate in range(6, 10)}
    pairs |= {(0, candidate): (0, 1.0) for candidate in range(10, 30)}
    before = set(formed(pairs))
    after = set(formed(pairs | {(0, 30): (0, 1.0)}))
    assert len(before - after) <= 4
    assert len(after - before) == len(before - after)


@settings(max_examples=20, deadline=None)
@given(outcomes)
def test_hashing_in_several_passes_gives_the_same_triplets(
    pairs: dict[tuple[int, int], tuple[int, float]],
) -> None:
    at_once = formed(pairs)
    limit = rule._PAIRS_PER_PASS
    try:
        rule._PAIRS_PER_PASS = 7
        assert formed(pairs) == at_once
    finally:
        rule._PAIRS_PER_PASS = limit


def test_which_negatives_are_chosen_is_part_of_the_rule_and_stays() -> None:
    pairs = {(0, 6): (3, 1.0)} | {(0, candidate): (0, 1.0) for candidate in range(7, 30)}
    chosen = sorted(negative for _, _, negative in formed(pairs))
    assert chosen == [14, 15, 17, 18, 22, 23, 24, 26]


def test_no_outcomes_give_no_triplets() -> None:
    assert formed({}) == {}
