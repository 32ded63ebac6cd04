"""The order of an answer: best score first, equal scores by user id.

Ids are looked up for equal scores alone: there are seldom any.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import Rows

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of an answer ends: everyone on the next page comes after it."""

    score: float
    user_id: str
    rank: int
    """How many have been shown up to here."""


class Order:
    """The candidates left, by the scores that decide."""

    def __init__(
        self, scores: Scores, rows: Rows, numbers: npt.NDArray[np.int32], user_ids: Sequence[str]
    ) -> None:
        self._scores = scores
        self._rows = rows
        self._numbers = numbers
        self._user_ids = user_ids

    def best(self, count: int) -> Rows:
        """Places of the best `count`, in no order."""
        scores = self._scores
        if count >= len(scores):
            return np.arange(len(scores))
        lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
        places = np.flatnonzero(scores >= lowest)
        if len(places) == count:
            return places
        above, equal = places[scores[places] > lowest], places[scores[places] == lowest]
        chosen = heapq.nsmallest(count - len(above), equal.tolist(), key=self._user_id)
        return np.concatenate([above, np.array(chosen, np.intp)])

    def sort(self, places: Rows) -> Rows:
        """The places, best first."""
        ordered: Rows = places[np.argsort(-self._scores[places], kind="stable")]
        scores = self._scores[ordered]
        if not (scores[1:] == scores[:-1]).any():
            return ordered
        return np.array(sorted(ordered.tolist(), key=self._rank), np.intp)

    def after(self, place: Place) -> Rows:
        """Places of those who come after a place, whoever stands there excepted."""
        scores = self._scores
        equal = [
            p
            for p in np.flatnonzero(scores == place.score).tolist()
            if self._user_id(p) > place.user_id
        ]
        lower = np.flatnonzero(scores < place.score)
        found = np.concatenate([np.array(equal, np.intp), lower])
        # Another order of the candidates in memory may move a score by its last bit.
        return found[[self._user_id(p) != place.user_id for p in found.tolist()]]

    def place(self, index: int, rank: int) -> Place:
        """Where one of the candidates stands."""
        return Place(float(self._scores[index]), self._user_id(index), rank)

    def _user_id(self, index: int) -> str:
        number: int = self._numbers[self._rows[index]]
        return self._user_ids[number]

    def _rank(self, index: int) -> tuple[float, str]:
        return -self._scores[index], self._user_id(index)
