"""Whom each seeker has had: the candidates about whom an outcome of theirs stands.

Learned from the triplet store's stream and held in memory, so that a match asks nobody: four bytes
a pair, twelve more where the outcome is positive. Each seeker's candidates are arrays that are
replaced whole: readers need no lock.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]

STANDS = 1
POSITIVE = 2


class PairRows(NamedTuple):
    """What became of n pairs."""

    numbers: Numbers
    """[n, 2] Seeker and candidate."""
    standing: npt.NDArray[np.uint8]
    """[n] 0 where no outcome stands any more, STANDS, or POSITIVE where a positive one does."""
    times: Times
    """[n] When it occurred, in microseconds since 1970."""


class _History(NamedTuple):
    candidates: Numbers
    """In the order of `times`, and at one moment of their numbers."""
    times: Times


_NOBODY: Numbers = np.zeros(0, np.int32)
_NOTHING = _History(_NOBODY, np.zeros(0, np.int64))


class Seen:
    """The pairs of one domain. One thread writes, any number reads."""

    def __init__(self) -> None:
        self._of: dict[int, Numbers] = {}
        self._histories: dict[int, _History] = {}

    def of(self, seeker: int) -> Numbers:
        """Numbers of the candidates whom a seeker has had."""
        return self._of.get(seeker, _NOBODY)

    def history(self, seeker: int) -> Numbers:
        """Numbers of the candidates whom a seeker has said yes to, the latest last."""
        return self._histories.get(seeker, _NOTHING).candidates

    def forget(self, numbers: Numbers) -> None:
        """Forgets whom some people have had. In others' arrays their numbers name nobody now."""
        for number in numbers.tolist():
            self._of.pop(number, None)
            self._histories.pop(number, None)

    def apply(self, rows: PairRows) -> None:
        """Adds pairs about which an outcome stands, and removes those whose last was taken back."""
        order = np.argsort(rows.numbers[:, 0], kind="stable")
        pairs, standing, times = rows.numbers[order], rows.standing[order], rows.times[order]
        seekers, starts = np.unique(pairs[:, 0], return_index=True)
        for seeker, start, end in zip(
            seekers.tolist(), starts, [*starts[1:], len(pairs)], strict=True
        ):
            candidates, stand = pairs[start:end, 1], standing[start:end]
            left = np.setdiff1d(self.of(seeker), candidates[stand == 0], assume_unique=True)
            self._of[seeker] = np.union1d(left, candidates[stand > 0])
            self._remember(seeker, candidates, stand == POSITIVE, times[start:end])

    def _remember(
        self, seeker: int, candidates: Numbers, positive: npt.NDArray[np.bool_], times: Times
    ) -> None:
        known = self._histories.get(seeker, _NOTHING)
        kept = ~np.isin(known.candidates, candidates)
        if not positive.any() and kept.all():
            return
        together = np.concatenate([known.candidates[kept], candidates[positive]])
        moments = np.concatenate([known.times[kept], times[positive]])
        order = np.lexsort((together, moments))
        self._histories[seeker] = _History(together[order], moments[order])
