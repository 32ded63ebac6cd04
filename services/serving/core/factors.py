"""Vectors that a head brings itself: what a seeker's own history says of the candidates.

A query is the sum of the vectors of those whom the seeker has said yes to, the latest counting
most: a fresh outcome changes the next match without any training. Whoever came after the training
has no vector here; where the domain has texts, the candidate's encoder vector stands in for it.

Shapes: m candidates, k numbers of a vector, d dim of the encoder, U people known in training.
"""

from dataclasses import dataclass, field

import numpy as np

from services.serving.core.candidates import Floats, Rows, View
from services.serving.core.errors import HeadRefusedError
from services.serving.core.seen import Numbers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factors:
    """The vectors of one head. What is multiplied with a query is a logit."""

    people: Numbers
    """[m] Numbers of the candidates, ascending."""
    history: Floats
    """[m, k] What having said yes to each adds to a query."""
    candidates: Floats
    """[m, k] What a query is multiplied with."""
    newcomer: Floats
    """[k] The query of a seeker without a history."""
    content: Floats
    """[d, k] From encoder vectors to those of candidates; [0, k] in a domain without texts."""
    recency_floor: float
    """Weight of the oldest yes, the latest having 1."""
    recency_places: float
    """Over how many later ones what is above the floor falls to a third."""
    _place_of: Numbers = field(init=False)
    """[U + 1] Place in the tables by number, m for a person without one."""

    def __post_init__(self) -> None:
        shapes = {self.history.shape, self.candidates.shape}
        wanted = (len(self.people), len(self.newcomer))
        if shapes != {wanted} or self.content.shape[1:] != wanted[1:]:
            raise HeadRefusedError("its vectors of candidates have other shapes than its people")
        if (np.diff(self.people) <= 0).any() or (self.people < 0).any():
            raise HeadRefusedError("its vectors of candidates do not name each once, in order")
        size = int(self.people.max(initial=-1)) + 2
        place_of = np.full(size, len(self.people), np.int32)
        place_of[self.people] = np.arange(len(self.people), dtype=np.int32)
        object.__setattr__(self, "_place_of", place_of)

    def query(self, history: Numbers) -> Floats:
        """The query [k] of a seeker from their history, the latest last."""
        weights = np.exp(-np.arange(len(history), dtype=np.float32)[::-1] / self.recency_places)
        weights = self.recency_floor + (1 - self.recency_floor) * weights
        places = self._places(history)
        known = places < len(self.people)
        if not known.any():
            return self.newcomer
        query: Floats = weights[known] @ self.history.take(places[known], axis=0)
        return query

    def affinities(self, view: View, rows: Rows, query: Floats) -> Floats:
        """What a query says of the people in some rows: [rows] logits."""
        places = self._places(view.numbers[rows])
        if 2 * len(rows) > len(self.people):  # to pick most out costs more than all
            found = np.append(self.candidates @ query, np.float32(0)).take(places)
        else:
            found = self._vectors(places) @ query
        new = np.flatnonzero(places == len(self.people)) if len(self.content) else places[:0]
        if len(new):
            found[new] = view.vectors.take(rows[new], axis=0) @ (self.content @ query)
        return found

    def spread(self, view: View) -> Floats:
        """The candidates' vectors [rows, k] in the order of a view's rows, for an index."""
        return self._vectors(self._places(view.numbers[: view.size]))

    def _vectors(self, places: Numbers) -> Floats:
        known = places < len(self.people)
        vectors = np.zeros((len(places), len(self.newcomer)), np.float32)
        vectors[known] = self.candidates.take(places[known], axis=0)
        return vectors

    def _places(self, numbers: Numbers) -> Numbers:
        return self._place_of[np.minimum(numbers, len(self._place_of) - 1)]
