"""A match: filter, linear stage, embedding stage, cross stage; as if in that order.

How is the planner's choice. A selective filter, or a small domain, is scored exactly. A loose
filter over a large domain lets the index pre-select inside the filter's mask before the linear
stage.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import Floats, Mask, Rows, View
from services.serving.core.conditions import Condition
from services.serving.core.errors import UserNotFoundError
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.order import Order, Place, Scores
from services.serving.core.ports import Index
from services.serving.core.stages import (
    BACK,
    CROSS,
    EMBEDDING,
    FILTER,
    FORWARD,
    LIGHT,
    StageOptions,
)

EXACT_ROWS_MAX = 20_000
"""Up to here a scan of all vectors takes about 2 ms, and an index would not pay."""

PRESELECTED = 4_000
"""Rows that the index hands to the linear stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRequest:
    """Whom to match, and how."""

    user_id: str
    conditions: Sequence[Condition]
    stages: Mapping[str, StageOptions]
    limit: int
    exclude: Sequence[str] = ()
    """User ids that shall not be in the answer."""
    exclude_seen: bool = False
    """Whether to leave out those about whom an outcome of the seeker stands."""
    after: Place | None = None
    """Where the page before ended."""


@dataclass(slots=True)
class MatchResult:
    """The best candidates, best first, and how they were found."""

    view: View
    seeker: int
    """The seeker's row in the view."""
    rows: Rows
    """[n] rows of the candidates in the view."""
    stage_scores: dict[str, Scores] = field(default_factory=dict)
    """[n] per stage that ran, the last one deciding the order; of each way, where there are two."""
    counts: dict[str, int] = field(default_factory=dict)
    """Candidates left after each stage."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time that each stage took."""
    first_rank: int = 1
    """Rank of the first candidate, which a later page counts on from the one before."""
    end: Place | None = None
    """Where the answer ends, if there are more."""
    judge_failure: str = ""
    """Why the judge did not decide although it was asked."""

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        """[n] users' numbers."""
        return self.view.numbers[self.rows]

    def pick(self, places: Rows) -> "MatchResult":
        """Some of the candidates, in a new order."""
        scores = {name: column[places] for name, column in self.stage_scores.items()}
        return replace(self, rows=self.rows[places], stage_scores=scores)


def find_matches(served: ServedDomain, request: MatchRequest) -> MatchResult:
    """Runs the stages for one seeker. Pure computation on one view and one head.

    Raises:
        UserNotFoundError: the domain has no such seeker.
    """
    partition, view = served.partition, served.partition.view
    number = partition.number_of.get(request.user_id)
    if number is None or number >= len(view.row_of) or view.row_of[number] < 0:
        raise UserNotFoundError(request.user_id)
    return _Match(served, view, int(view.row_of[number]), request).run()


class _Match:
    """One match under way: the rows still in it and the scores they have got so far."""

    def __init__(
        self, served: ServedDomain, view: View, seeker: int, request: MatchRequest
    ) -> None:
        index = served.index
        self._served = served
        self._view = view
        self._head = served.head
        self._index = index if index and index.generation == view.generation else None
        self._probes_count = served.probes_count
        self._seeker = seeker
        self._request = request
        self._query: Floats | None = None
        self._seeker_state: Floats | None = None
        self._states: Floats | None = None
        self._cosines: Floats = np.zeros(0, np.float32)
        self._factor_query: Floats | None = None
        self._affinities: Floats | None = None
        self._rows: Rows = np.zeros(0, np.intp)
        self._scores: dict[str, Scores] = {}
        self._result = MatchResult(view, seeker, self._rows)

    def run(self) -> MatchResult:
        """Runs every stage that is enabled and that the head has; at least one of them."""
        self._stage(FILTER, self._filter)
        enabled = {name for name, options in self._request.stages.items() if options.enabled}
        if self._head.scorers is None:
            enabled = {EMBEDDING}
        for name, act in (
            (LIGHT, self._score_light),
            (EMBEDDING, self._score_embedding),
            (CROSS, self._score_cross),
        ):
            if name in enabled:
                self._stage(name, act, self._request.stages[name])
        result = self._result
        keep = self._answer()
        result.rows = self._rows[keep]
        result.stage_scores = {name: scores[keep] for name, scores in self._scores.items()}
        return result

    def _stage(
        self, name: str, act: Callable[[], Scores | None], options: StageOptions | None = None
    ) -> None:
        started = time.perf_counter()
        scores = act() if options is None or len(self._rows) else np.zeros(0)
        if scores is not None and options is not None:
            self._scores[name] = scores
            self._cut(options)
        self._result.counts.setdefault(name, len(self._rows))
        self._result.seconds[name] = time.perf_counter() - started

    def _filter(self) -> None:
        view = self._view
        mask = view.alive.copy()
        for condition in self._request.conditions:
            mask &= condition(view, self._seeker)
        mask[self._seeker] = False
        if self._request.exclude or self._request.exclude_seen:
            mask[self._excluded()] = False
        passed = int(np.count_nonzero(mask))
        self._result.counts[FILTER] = passed  # however few of them the index then hands on
        if self._index is not None and passed > EXACT_ROWS_MAX:
            self._rows = self._preselect(self._index, mask)
        else:
            self._rows = np.flatnonzero(mask)

    def _excluded(self) -> Rows:
        """Rows of those whom the request leaves out."""
        request, partition, view = self._request, self._served.partition, self._view
        named = [n for u in request.exclude if (n := partition.number_of.get(u)) is not None]
        numbers = np.array(named, np.int32)
        if request.exclude_seen:
            seen = partition.seen.of(int(view.numbers[self._seeker]))
            numbers = np.concatenate([numbers, seen])
        rows = view.row_of[numbers[numbers < len(view.row_of)]]
        return rows[rows >= 0].astype(np.intp)

    def _preselect(self, index: Index, mask: Mask) -> Rows:
        """Rows near the query inside the mask: from the index, and all that are newer than it."""
        query, newer = self._mapped(), index.rows + np.flatnonzero(mask[index.rows :])
        inside = mask[: index.rows]
        # Of a list, the mask lets only its share through: the same many lie in more lists.
        probes = round(self._probes_count * index.rows / max(1, int(inside.sum())))
        own = self._served.factor_index
        if own is None or own.rows != index.rows or own.generation != index.generation:
            return np.concatenate([index.search(query, inside, PRESELECTED, probes), newer])
        # The head's own vectors say who goes with the history, the encoder's who is near.
        near = index.search(query, inside, PRESELECTED // 2, probes)
        probes = round(self._served.factor_probes_count * index.rows / max(1, int(inside.sum())))
        fitting = own.search(self._history_query(), inside, PRESELECTED // 2, probes)
        return np.concatenate([np.union1d(near, fitting), newer])

    def _mapped(self) -> Floats:
        if self._query is None:
            self._query = self._head.map_query(self._view, self._seeker)
        return self._query

    def _score_light(self) -> Scores:
        scorers = self._head.scorers
        assert scorers is not None
        return self._score_pairs(LIGHT, lambda *pairs: _sigmoid(scorers.score_light(*pairs)))

    def _score_embedding(self) -> Scores:
        affinities = self._fits()
        if affinities is not None:
            return _sigmoid(affinities)
        return (self._cosines_to(self._mapped()).astype(np.float64) + 1) / 2

    def _history_query(self) -> Floats:
        """The seeker's query in the head's own space, once a match."""
        if self._factor_query is None:
            self._factor_query = self._served.query_history(self._view, self._seeker)
        return self._factor_query

    def _fits(self) -> Floats | None:
        """What the seeker's history says of the rows left, as logits; None if the head asks not."""
        factors = self._head.factors
        if factors is not None and self._affinities is None:
            query = self._history_query()
            self._affinities = factors.affinities(self._view, self._rows, query)
        return self._affinities

    def _cosines_to(self, query: Floats) -> Floats:
        """Cosines of a query and the rows left. To pick most rows out costs more than all."""
        view, rows = self._view, self._rows
        if 2 * len(rows) > view.size:
            every: Floats = view.vectors[: view.size] @ query
            return every[rows]
        return view.vectors.take(rows, axis=0) @ query

    def _score_cross(self) -> Scores:
        scorers = self._head.scorers
        assert scorers is not None
        return self._score_pairs(CROSS, lambda *p: scorers.score_cross(*p).astype(np.float64))

    def _score_pairs(self, stage: str, score: Callable[[Floats, Floats, Floats], Scores]) -> Scores:
        """Chances of a yes; in a reciprocal domain, where it takes both, the product of two."""
        seeker, candidates, cosines = self._described()
        forward, affinities = score(seeker, candidates, cosines), self._fits()
        if affinities is not None:
            forward = shift_chances(forward, affinities)
        if not self._served.partition.layout.reciprocal:
            return forward
        back = score(candidates, np.broadcast_to(seeker, candidates.shape), cosines)
        self._scores[stage + FORWARD], self._scores[stage + BACK] = forward, back
        return forward * back

    def _described(self) -> tuple[Floats, Floats, Floats]:
        """States of the seeker and of the candidates left, and their cosines; once a match."""
        if self._states is None or self._seeker_state is None:
            rows = np.concatenate([[self._seeker], self._rows])
            states = self._served.describe(self._view, rows)
            self._seeker_state, self._states = states[0], states[1:]
            self._cosines = self._cosines_to(self._view.vectors[self._seeker])
        return self._seeker_state, self._states, self._cosines

    def _cut(self, options: StageOptions) -> None:
        """Keeps the best rows of the stage that has just run."""
        scores = self._scores_last()
        keep = self._order().best(options.top_k)
        if options.min_score > 0:
            keep = keep[scores[keep] >= options.min_score]
        if len(keep) == len(scores):
            return
        self._rows = self._rows[keep]
        if self._states is not None:
            self._states, self._cosines = self._states.take(keep, axis=0), self._cosines[keep]
        if self._affinities is not None:
            self._affinities = self._affinities[keep]
        self._scores = {name: scores[keep] for name, scores in self._scores.items()}

    def _answer(self) -> Rows:
        """Places of the answer, best first."""
        limit, after, order = self._request.limit, self._request.after, self._order()
        if after is None:
            keep = order.sort(order.best(limit))
            left = len(self._rows)
        else:
            following = order.sort(order.after(after))
            self._result.first_rank = after.rank + 1
            keep, left = following[:limit], len(following)
        if left > limit:
            self._result.end = order.place(int(keep[-1]), self._result.first_rank - 1 + limit)
        return keep

    def _order(self) -> Order:
        """The candidates left, by the stage that ran last."""
        user_ids = self._served.partition.user_ids
        return Order(self._scores_last(), self._rows, self._view.numbers, user_ids)

    def _scores_last(self) -> Scores:
        """Scores of the stage that ran last: they decide."""
        return next(reversed(self._scores.values()))


def shift_chances(chances: Scores, logits: Floats) -> Scores:
    """Chances whose odds are multiplied: what the history adds to a stage's own logits."""
    with np.errstate(over="ignore"):
        odds = np.exp(-logits.astype(np.float64))
    shifted: Scores = chances / (chances + (1 - chances) * odds)
    return shifted


def _sigmoid(logits: Floats) -> Scores:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))
