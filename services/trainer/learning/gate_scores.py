"""What the gate judges by: scores of held-out outcomes, by the new head and by the one in use."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.ports import Column, Evaluation
from services.trainer.learning.head import Head
from services.trainer.learning.onnx_head import Floats, OnnxHead
from services.trainer.learning.snapshot import Parts, Snapshot, count_outcomes, people_fold


@dataclass(frozen=True, slots=True)
class Fold:
    """Outcomes to be ranked, grouped by seeker, and what is known when they are."""

    rows: Tensor
    history: Tensor


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


def join(evaluations: list[Evaluation]) -> Evaluation:
    """The folds' scores as one evaluation."""
    names = ("seekers", "levels", "challenger_scores", "incumbent_scores")
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in evaluations]) for name in names
    }
    return Evaluation(**arrays, incumbent_calibrated=evaluations[0].incumbent_calibrated)


def score_fold(
    snapshot: Snapshot,
    fold: Fold,
    table: Tensor,
    head: Head,
    *,
    incumbent: OnnxHead | None,
) -> Evaluation:
    """Scores a fold's outcomes by both heads; the table is that of the fold's history."""
    rows, history = fold.rows, fold.history
    counts = count_outcomes(snapshot, history)
    seekers, candidates = snapshot.seekers[rows], snapshot.candidates[rows]
    cosines = (snapshot.vectors[seekers] * snapshot.vectors[candidates]).sum(1, keepdim=True)
    with torch.no_grad():
        states = head.person(snapshot.columns, counts, table)
        scores: Tensor = head.cross(states[seekers], states[candidates], cosines)[:, 0]
    return Evaluation(
        seekers=seekers.int().cpu().numpy(),
        levels=snapshot.levels[rows].int().cpu().numpy(),
        challenger_scores=scores.cpu().numpy(),
        incumbent_scores=_score_incumbent(
            snapshot, rows, counts, table, cosines, incumbent=incumbent
        ),
        incumbent_calibrated=incumbent is not None,
    )


def _score_incumbent(
    snapshot: Snapshot,
    rows: Tensor,
    counts: Tensor,
    table: Tensor,
    cosines: Tensor,
    *,
    incumbent: OnnxHead | None,
) -> Floats:
    known: Floats = cosines.float().cpu().numpy()
    if incumbent is None:  # the encoder alone
        return known[:, 0]
    # Not its own table: that one knows those of the gate's outcomes that came before the head did.
    columns = _columns_for(snapshot, incumbent.columns)
    states = incumbent.describe(columns, counts.cpu().numpy(), table.cpu().numpy())
    seekers, candidates = (n[rows].cpu().numpy() for n in (snapshot.seekers, snapshot.candidates))
    scores = np.zeros(len(rows), np.float32)
    starts = np.flatnonzero(np.diff(seekers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        seeker = states[seekers[start : start + 1]]
        pair = (seeker, states[candidates[start:end]], known[start:end])
        scores[start:end] = incumbent.score_cross(*pair)[:, 0]
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
