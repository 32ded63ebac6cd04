"""Whom each seeker has had: the candidates about whom an outcome of theirs stands.

Learned from the triplet store's stream and held in memory, four bytes a pair, so that a match asks
nobody. Each seeker's candidates are an array that is replaced whole: readers need no lock.
"""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
PairRows = tuple[Numbers, npt.NDArray[np.bool_]]
"""Seeker and candidate [n, 2], and whether an outcome stands about them [n]."""

_NOBODY: Numbers = np.zeros(0, np.int32)


class Seen:
    """The pairs of one domain. One thread writes, any number reads."""

    def __init__(self) -> None:
        self._of: dict[int, Numbers] = {}

    def of(self, seeker: int) -> Numbers:
        """Numbers of the candidates whom a seeker has had."""
        return self._of.get(seeker, _NOBODY)

    def forget(self, numbers: Numbers) -> None:
        """Forgets whom some people have had. In others' arrays their numbers name nobody now."""
        for number in numbers.tolist():
            self._of.pop(number, None)

    def apply(self, pairs_n2: Numbers, standing_n: npt.NDArray[np.bool_]) -> None:
        """Adds pairs about which an outcome stands, and removes those whose last was taken back."""
        order = np.argsort(pairs_n2[:, 0], kind="stable")
        pairs, standing = pairs_n2[order], standing_n[order]
        seekers, starts = np.unique(pairs[:, 0], return_index=True)
        for seeker, start, end in zip(
            seekers.tolist(), starts, [*starts[1:], len(pairs)], strict=True
        ):
            candidates, stand = pairs[start:end, 1], standing[start:end]
            left = np.setdiff1d(self.of(seeker), candidates[~stand], assume_unique=True)
            self._of[seeker] = np.union1d(left, candidates[stand])
