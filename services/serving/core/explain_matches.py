"""Why somebody stands where they stand: what each thing known of them adds to the score.

A head is a function, not a table of weights, so its linear stage is asked again without each thing:
once without each field, once without the vectors' closeness, once without what outcomes say. Each
of its features reads one field, hence what a field adds does not depend on the others, and all of
it adds up. What the cross stage says beyond the linear one is one number more, and what the
seeker's history says, where a head brings vectors for that, is another. The base is the rest: what
somebody would score with this seeker of whom nothing is known.

Shapes: n matches, c columns of the head, v = c + 2 variants of each match.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import Floats, Rows
from services.serving.core.find_matches import MatchResult
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.stages import BACK, CROSS, EMBEDDING, FORWARD, STAGES

EXPLAINED_MAX = 100

FIELD = "field"
CLOSENESS = "closeness"
CANDIDATE_OUTCOMES = "candidate_outcomes"
SEEKER_OUTCOMES = "seeker_outcomes"
HISTORY = "history"
LOGISTIC = "logistic"
IDENTITY = "identity"

_CERTAIN = 1e-9
"""Beyond this a probability has no logit that could be told."""

Numbers = npt.NDArray[np.float64]


class Contribution(NamedTuple):
    """What one thing adds."""

    source: str
    field: str
    """The field's name, of a field."""
    value: float


class Outcomes(NamedTuple):
    """Outcomes that count for a match."""

    given: int
    given_positive: int
    received: int
    received_positive: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Base and contributions add up to the score, through the link."""

    score: float
    link: str
    base: float
    contributions: Sequence[Contribution]
    """The largest first."""
    outcomes: Outcomes
    """Given by whoever chooses, received by whoever is chosen."""
    cosine: float = field(default=0.0)
    """Of both people's vectors."""


def explain_matches(
    served: ServedDomain, result: MatchResult, *, back: bool = False
) -> list[Explanation]:
    """Explains the score of the head's last stage, for each match; `back` asks for the other way.

    Back, the candidates choose and the seeker is chosen. There is such a score in reciprocal
    domains alone, and where it is none, there is nothing to explain.
    """
    stages = result.stage_scores
    decisive = next(name for name in reversed(stages) if name in STAGES)
    scores = stages.get(decisive + (BACK if back else FORWARD))
    if scores is None:
        if back:
            return []
        scores = stages[decisive]
    if not len(result.rows):
        return []
    outcomes = _outcomes(served, result, back=back)
    fits = None if back else _affinities(served, result)
    if decisive == EMBEDDING and fits is not None:
        return [
            Explanation(s, LOGISTIC, 0.0, [Contribution(HISTORY, "", a)], o)
            for s, a, o in zip(scores.tolist(), fits.tolist(), outcomes, strict=True)
        ]
    if decisive == EMBEDDING:
        return [
            Explanation(s, IDENTITY, 0.5, [Contribution(CLOSENESS, "", s - 0.5)], o, 2 * s - 1)
            for s, o in zip(scores.tolist(), outcomes, strict=True)
        ]
    parts = _Occlusions(served, result, back=back).contributions()
    logits = _logits(scores)
    if fits is not None:
        parts.values[HISTORY, ""] = fits
    if decisive == CROSS:
        parts.values[CROSS, ""] = logits - parts.light - (0.0 if fits is None else fits)
    base = logits - sum(parts.values.values())
    return [
        Explanation(
            score=float(scores[place]),
            link=LOGISTIC,
            base=float(base[place]),
            contributions=_largest_first(parts.values, place),
            outcomes=outcomes[place],
            cosine=float(parts.cosines[place]),
        )
        for place in range(len(scores))
    ]


@dataclass(slots=True)
class _Parts:
    light: Numbers
    """[n] logits of the linear stage."""
    cosines: Floats
    """[n]"""
    values: dict[tuple[str, str], Numbers]
    """[n] by source and field."""


class _Occlusions:
    """One batch of questions to the linear stage: everyone as they are, and without each thing."""

    def __init__(self, served: ServedDomain, result: MatchResult, *, back: bool) -> None:
        assert served.head.scorers is not None
        self._served = served
        self._result = result
        self._head = served.head
        self._scorers = served.head.scorers
        self._back = back

    def contributions(self) -> _Parts:
        """What each thing adds to the logits of the linear stage."""
        served, result = self._served, self._result
        view, rows = result.view, result.rows
        states = served.describe(view, np.concatenate([[result.seeker], rows]))
        seeker, cosines = states[0], view.vectors[rows] @ view.vectors[result.seeker]
        light = self._light(seeker, states[1:], cosines)
        plain = self._variants(seeker, rows, cosines)
        bare_seeker = self._bare(self._columns(np.array([result.seeker])))[0]
        values = {
            (CANDIDATE_OUTCOMES, ""): light - plain[0],
            (SEEKER_OUTCOMES, ""): light - self._light(bare_seeker, states[1:], cosines),
            (CLOSENESS, ""): plain[0] - plain[-1],
        }
        fields = served.partition.layout.columns
        for place, column in enumerate(self._head.columns.tolist()):
            values[FIELD, fields[column].name] = plain[0] - plain[1 + place]
        return _Parts(light, cosines, values)

    def _variants(self, seeker: Floats, rows: Rows, cosines: Floats) -> Numbers:
        """Logits [v, n] without outcomes: as they are, without each field, without closeness."""
        columns = self._columns(rows)
        count = columns.shape[1]
        variants = np.repeat(columns[np.newaxis], count + 2, axis=0)
        for column in range(count):
            variants[1 + column, :, column] = np.nan
        states = self._bare(variants.reshape(-1, count))
        close = np.tile(cosines, count + 2)
        close[-len(rows) :] = 0
        return self._light(seeker, states, close).reshape(count + 2, len(rows))

    def _columns(self, rows: Rows) -> Floats:
        columns: Floats = self._result.view.features[rows][:, self._head.columns]
        return columns

    def _bare(self, columns_nc: Floats) -> Floats:
        """States of people of whom outcomes say nothing."""
        count = len(columns_nc)
        zeros = np.zeros((count, 4), np.float32)
        return self._scorers.describe(columns_nc, zeros, np.zeros((count, 2), np.float32))

    def _light(self, seeker: Floats, states: Floats, cosines: Floats) -> Numbers:
        pair = (states, np.broadcast_to(seeker, states.shape)) if self._back else (seeker, states)
        return self._scorers.score_light(*pair, cosines).astype(np.float64)


def _affinities(served: ServedDomain, result: MatchResult) -> Numbers | None:
    """What the seeker's history adds to the logits of each match [n]."""
    factors, view = served.head.factors, result.view
    if factors is None:
        return None
    query = served.query_history(view, result.seeker)
    return factors.affinities(view, result.rows, query).astype(np.float64)


def _largest_first(values: dict[tuple[str, str], Numbers], place: int) -> list[Contribution]:
    """What is not nothing, in an order that depends on nothing else."""
    found = [Contribution(*key, float(column[place])) for key, column in values.items()]
    return sorted((c for c in found if c.value), key=lambda c: (-abs(c.value), c.source, c.field))


def _outcomes(served: ServedDomain, result: MatchResult, *, back: bool) -> list[Outcomes]:
    counts = served.partition.counts
    candidates = counts[result.numbers].astype(int)
    seeker = np.broadcast_to(
        counts[result.view.numbers[result.seeker]].astype(int), candidates.shape
    )
    choosing, chosen = (candidates, seeker) if back else (seeker, candidates)
    rows = np.concatenate([choosing[:, :2], chosen[:, 2:]], axis=1).tolist()
    return [Outcomes(*row) for row in rows]


def _logits(probabilities: Numbers) -> Numbers:
    certain = np.clip(probabilities, _CERTAIN, 1 - _CERTAIN)
    logits: Numbers = np.log(certain) - np.log1p(-certain)
    return logits
