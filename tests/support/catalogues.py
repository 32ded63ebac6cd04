"""Made-up catalogues: seekers who choose within a taste of their own, and say no to nothing."""

import numpy as np
import numpy.typing as npt

from tests.support.snapshots import DIM, pack

TASTES = 4
ITEMS = 60
"""People 0 to 59 are chosen, those after them choose; item i is of taste i mod 4."""


def catalogue(
    seekers: int = 60,
    choices: int = 12,
    seed: int = 0,
    *,
    noise: float = 0.15,
    texts: bool = False,
    items: npt.NDArray[np.int64] | None = None,
) -> bytes:
    """A snapshot in which seeker s chooses items of taste s mod 4, some out of the blue.

    With texts, items of one taste have vectors that resemble each other. `items` are those that
    there are to choose from.
    """
    random = np.random.default_rng(seed)
    there = np.arange(ITEMS) if items is None else items
    pairs: list[tuple[int, int]] = []
    for seeker in range(seekers):
        liked = there[there % TASTES == seeker % TASTES]
        blue = random.random(choices) < noise
        drawn = np.where(blue, random.choice(there, choices), random.choice(liked, choices))
        pairs += [(ITEMS + seeker, int(item)) for item in dict.fromkeys(drawn.tolist())]
    numbers = np.array(pairs, np.int32)
    return pack(
        np.zeros((ITEMS + seekers, 0), np.float32),
        taste_vectors(seekers) if texts else np.zeros((ITEMS + seekers, DIM)),
        numbers[:, 0],
        numbers[:, 1],
        np.full(len(numbers), 2, np.int8),
        seconds=random.permutation(len(numbers)),
        columns=[],
    )


def taste_vectors(seekers: int) -> npt.NDArray[np.float64]:
    """Unit vectors of items and seekers; the seekers' say nothing."""
    random = np.random.default_rng(7)
    vectors = random.normal(size=(ITEMS + seekers, DIM)) * 0.2
    vectors[np.arange(ITEMS), np.arange(ITEMS) % TASTES] += 1
    lengths: npt.NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
