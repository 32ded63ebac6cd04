"""Whom a seeker has had: what stands, whatever came in which batches and how often."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.seen import POSITIVE, STANDS, PairRows, Seen

PAIRS = st.tuples(st.integers(0, 3), st.integers(0, 5))
WORDS = st.tuples(st.integers(0, POSITIVE), st.integers(0, 3))
"""What stands of a pair, and since when."""
BATCHES = st.lists(st.dictionaries(PAIRS, WORDS, min_size=1))


@given(BATCHES)
def test_the_last_word_on_each_pair_stands(
    batches: list[dict[tuple[int, int], tuple[int, int]]],
) -> None:
    seen = Seen()
    stands: dict[tuple[int, int], tuple[int, int]] = {}
    for batch in batches:
        numbers = np.array(list(batch), np.int32)
        standing, times = np.array(list(batch.values())).T
        for _ in range(2):  # a batch may come twice
            seen.apply(PairRows(numbers, standing.astype(np.uint8), times.astype(np.int64)))
        stands |= batch
    for seeker in range(5):
        theirs = {c: word for (s, c), word in stands.items() if s == seeker}
        expected = sorted(c for c, (word, _) in theirs.items() if word)
        assert seen.of(seeker).tolist() == expected
        positive = sorted((time, c) for c, (word, time) in theirs.items() if word == POSITIVE)
        assert seen.history(seeker).tolist() == [c for _, c in positive]


def test_a_yes_that_becomes_a_no_leaves_the_history_but_was_seen() -> None:
    seen = Seen()
    for word, time in ((POSITIVE, 1), (STANDS, 2)):
        numbers = np.array([[0, 5]], np.int32)
        seen.apply(PairRows(numbers, np.array([word], np.uint8), np.array([time], np.int64)))
    assert seen.of(0).tolist() == [5]
    assert seen.history(0).tolist() == []


def test_who_is_forgotten_has_no_history() -> None:
    seen = Seen()
    numbers = np.array([[0, 5], [1, 5]], np.int32)
    seen.apply(PairRows(numbers, np.full(2, POSITIVE, np.uint8), np.zeros(2, np.int64)))
    seen.forget(np.array([0], np.int32))
    assert [seen.history(seeker).tolist() for seeker in (0, 1)] == [[], [5]]
