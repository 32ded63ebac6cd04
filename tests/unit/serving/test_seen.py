"""Whom a seeker has had: what stands, whatever came in which batches and how often."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.seen import Seen

PAIRS = st.tuples(st.integers(0, 3), st.integers(0, 5))
BATCHES = st.lists(st.dictionaries(PAIRS, st.booleans(), min_size=1))


@given(BATCHES)
def test_the_last_word_on_each_pair_stands(batches: list[dict[tuple[int, int], bool]]) -> None:
    seen = Seen()
    stands: dict[tuple[int, int], bool] = {}
    for batch in batches:
        for _ in range(2):  # a batch may come twice
            seen.apply(np.array(list(batch), np.int32), np.array(list(batch.values())))
        stands |= batch
    for seeker in range(5):
        expected = sorted(c for (s, c), stand in stands.items() if s == seeker and stand)
        assert seen.of(seeker).tolist() == expected
