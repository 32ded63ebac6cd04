"""What the gate judges by: scores of outcomes that the scorers have not learned from.

A head is learned from all outcomes, so it cannot be asked about any of them. Its twins are asked:
the same recipe, learned from what is known of others when a fold of people is ranked. The head in
use is represented by its own twins, so neither side knows an answer, and equal heads score equally.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.ports import Column
from services.trainer.learning.onnx_head import Floats, OnnxHead
from services.trainer.learning.ranker import Ranker
from services.trainer.learning.snapshot import Parts, Snapshot, count_outcomes, people_fold


@dataclass(frozen=True, slots=True)
class Fold:
    """Outcomes to be ranked, grouped by seeker, and what is known when they are."""

    rows: Tensor
    history: Tensor


@dataclass(frozen=True, slots=True)
class Answer:
    """What a ranker says of a fold."""

    table: Tensor
    """[U, 2]: what it knew of people."""
    scores: Tensor
    """Probabilities [rows]."""


def gate_folds(snapshot: Snapshot, parts: Parts, folds: int, most: int) -> list[Fold]:
    """Divides the gate's outcomes by who was the seeker; `most` of them at most.

    A fold is ranked as serving would rank for its seekers today, had they been away while the
    gate's outcomes were given: those of other people are known, those that the fold's people gave
    or received are not. No seeker's own outcome is known for another of the same seeker: leaving
    out a yes alone would lower the seeker's rate where a yes is right.
    """
    known = torch.cat([parts.training, parts.validation])
    seekers, candidates = snapshot.seekers[parts.gate], snapshot.candidates[parts.gate]
    fold_of_seeker = people_fold(snapshot, seekers, folds)
    fold_of_candidate = people_fold(snapshot, candidates, folds)
    cut: list[Fold] = []
    for fold in range(folds):
        rows = parts.gate[fold_of_seeker == fold]
        if not len(rows):
            continue
        rows = rows[torch.argsort(snapshot.seekers[rows], stable=True)]
        others = parts.gate[(fold_of_seeker != fold) & (fold_of_candidate != fold)]
        history = torch.cat([known, others])
        cut.append(Fold(rows[: most // folds], history))
    return cut


class Evidence:
    """A fold's outcomes as rankers read them."""

    def __init__(self, snapshot: Snapshot, fold: Fold) -> None:
        self.fold = fold
        self.seekers, self.candidates = (
            people[fold.rows] for people in (snapshot.seekers, snapshot.candidates)
        )
        self.levels = snapshot.levels[fold.rows]
        vectors = snapshot.vectors
        products = vectors[self.seekers] * vectors[self.candidates]
        self.cosines = products.sum(1, keepdim=True)
        self.columns = snapshot.columns
        self.counts = count_outcomes(snapshot, fold.history)

    def ask(self, ranker: Ranker) -> Answer:
        """What a ranker says that knows people by the fold's history."""
        with torch.no_grad():
            table = ranker.table(self.fold.history)
            states = ranker.person(self.columns, self.counts, table)
            seekers, candidates = states[self.seekers], states[self.candidates]
            scores: Tensor = ranker.cross(seekers, candidates, self.cosines)[:, 0]
        return Answer(table, scores)


class Incumbent:
    """The head in use, as the gate asks it: by its twins, or itself if it has none."""

    def __init__(self, snapshot: Snapshot, twins: list[OnnxHead]) -> None:
        self._snapshot = snapshot
        self._twins = twins
        self._columns = _columns_for(snapshot, twins[0].columns)

    def score(self, evidence: Evidence, challenger: Answer) -> Floats:
        """Probabilities [rows] by what the challenger knew of people: more than a head's own table.

        Each seeker is ranked by the twin of the seeker's fold: it learned from nothing that the
        seeker gave or received since the outcomes began that its own gate asked about.
        """
        scores = np.zeros(len(evidence.seekers), np.float32)
        folds = people_fold(self._snapshot, evidence.seekers, len(self._twins)).cpu().numpy()
        seekers, candidates = evidence.seekers.cpu().numpy(), evidence.candidates.cpu().numpy()
        cosines: Floats = evidence.cosines.cpu().numpy()
        table, counts = challenger.table.cpu().numpy(), evidence.counts.cpu().numpy()
        starts = np.flatnonzero(np.diff(seekers, prepend=-1))
        for fold in np.unique(folds):
            twin = self._twins[fold]
            states = twin.describe(self._columns, counts, table)
            for start, end in zip(starts, [*starts[1:], len(seekers)], strict=True):
                if folds[start] == fold:
                    seeker = states[seekers[start : start + 1]]
                    pair = (seeker, states[candidates[start:end]], cosines[start:end])
                    scores[start:end] = twin.score_cross(*pair)[:, 0]
        return scores


def _columns_for(snapshot: Snapshot, wanted: tuple[Column, ...]) -> Floats:
    """The snapshot's columns as another head reads them; a column that is gone has no values."""
    places = {field.name: index for index, field in enumerate(snapshot.fields)}
    columns = np.full((snapshot.users_count, len(wanted)), np.nan, np.float32)
    values = snapshot.columns.cpu().numpy()
    for index, column in enumerate(wanted):
        if column.name in places:
            columns[:, index] = values[:, places[column.name]]
    return columns
