"""What the gate judges by: scores of outcomes that the scorers have not learned from.

A head is learned from all outcomes, so it cannot be asked about any of them. Its twins are asked:
the same recipe, learned from what is known of others when a fold of people is ranked. The head in
use is represented by its own twins, so neither side knows an answer, and equal heads score equally.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.trainer.learning.onnx_head import Floats, OnnxHead
from services.trainer.learning.page_scores import slot_people, slots_of
from services.trainer.learning.ranker import Ranker
from services.trainer.learning.snapshot import (
    Parts,
    Snapshot,
    columns_for,
    count_outcomes,
    people_fold,
)


@dataclass(frozen=True, slots=True)
class Fold:
    """Outcomes to be ranked, grouped by seeker, and what is known when they are."""

    rows: Tensor
    history: Tensor
    slots: Tensor
    """Of the pages that were shown to the fold's people meanwhile."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Whom to rank for whom."""

    seekers: Tensor
    candidates: Tensor
    cosines: Tensor
    """[n, 1]"""

    @classmethod
    def of(cls, snapshot: Snapshot, seekers: Tensor, candidates: Tensor) -> "Pairs":
        """Pairs of a snapshot's people."""
        vectors = snapshot.vectors
        products = vectors[seekers] * vectors[candidates]
        return cls(seekers, candidates, products.sum(1, keepdim=True))

    @property
    def back(self) -> "Pairs":
        """The other way round."""
        return Pairs(self.candidates, self.seekers, self.cosines)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a ranker says of a fold."""

    table: Tensor
    """[U, 2]: what it knew of people."""
    scores: Tensor
    """Probabilities [rows]."""
    shown: Tensor
    """What it would rank each slot's candidate by [slots]: of a match, where that takes both."""


def gate_folds(
    snapshot: Snapshot, parts: Parts, folds: int, most: int, slots: Tensor
) -> list[Fold]:
    """Divides the gate's outcomes and slots by who was the seeker; `most` outcomes at most.

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
        shown = slots_of(snapshot, slots, folds, fold)
        cut.append(Fold(rows[: most // folds], history, shown))
    return cut


class Evidence:
    """A fold's outcomes and slots as rankers read them."""

    def __init__(self, snapshot: Snapshot, fold: Fold) -> None:
        self.fold = fold
        self.reciprocal = snapshot.reciprocal
        self.asked = Pairs.of(snapshot, snapshot.seekers[fold.rows], snapshot.candidates[fold.rows])
        self.shown = Pairs.of(snapshot, *slot_people(snapshot, fold.slots))
        self.levels = snapshot.levels[fold.rows]
        self.columns = snapshot.columns
        self.counts = count_outcomes(snapshot, fold.history)

    def ask(self, ranker: Ranker) -> Answer:
        """What a ranker says that knows people by the fold's history."""
        with torch.no_grad():
            table = ranker.table(self.fold.history)
            states = ranker.person(self.columns, self.counts, table)

            def score(pairs: Pairs) -> Tensor:
                seekers, candidates = states[pairs.seekers], states[pairs.candidates]
                scores: Tensor = ranker.cross(seekers, candidates, pairs.cosines)[:, 0]
                return scores

            shown = score(self.shown)
            if self.reciprocal:
                shown = shown * score(self.shown.back)
            return Answer(table, score(self.asked), shown)


class Incumbent:
    """The head in use, as the gate asks it: by its twins, or itself if it has none.

    It knows of people what the challenger knew: more than a head's own table. Each seeker is ranked
    by the twin of the seeker's fold: it learned from nothing that the seeker gave or received since
    the outcomes began that its own gate asked about.
    """

    def __init__(self, snapshot: Snapshot, twins: list[OnnxHead]) -> None:
        self._snapshot = snapshot
        self._twins = twins
        self._columns = columns_for(snapshot, twins[0].columns)

    def score(self, evidence: Evidence, challenger: Answer) -> Floats:
        """Probabilities [rows]."""
        return self._score(evidence.asked, evidence, challenger, reciprocal=False)

    def score_shown(self, evidence: Evidence, challenger: Answer) -> Floats:
        """What it would rank each slot's candidate by [slots]."""
        return self._score(evidence.shown, evidence, challenger, reciprocal=evidence.reciprocal)

    def _score(
        self, pairs: Pairs, evidence: Evidence, challenger: Answer, *, reciprocal: bool
    ) -> Floats:
        scores = np.zeros(len(pairs.seekers), np.float32)
        folds = people_fold(self._snapshot, pairs.seekers, len(self._twins)).cpu().numpy()
        seekers, candidates = pairs.seekers.cpu().numpy(), pairs.candidates.cpu().numpy()
        cosines: Floats = pairs.cosines.cpu().numpy()
        table, counts = challenger.table.cpu().numpy(), evidence.counts.cpu().numpy()
        if not self._twins[0].knows_people:
            table = np.zeros_like(table)
        edges = np.flatnonzero(np.diff(seekers, prepend=-1, append=-1))
        for fold in np.unique(folds):
            twin = self._twins[fold]
            states = twin.describe(self._columns, counts, table)
            for start, end in itertools.pairwise(edges):
                if folds[start] == fold:
                    seeker, others = states[seekers[start : start + 1]], candidates[start:end]
                    known = (states[others], cosines[start:end])
                    scores[start:end] = twin.score_cross(seeker, *known)[:, 0]
                    if reciprocal:
                        both = np.repeat(seeker, len(others), axis=0)
                        back = twin.score_cross(known[0], both, known[1])
                        scores[start:end] *= back[:, 0]
        return scores
