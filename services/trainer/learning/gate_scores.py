"""What the gate judges by: scores of held-out outcomes, by the new head and by the one in use."""

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.ports import Column, Evaluation, HeadFiles
from services.trainer.learning.head import Head
from services.trainer.learning.onnx_head import Floats, OnnxHead
from services.trainer.learning.snapshot import Parts, Snapshot, count_outcomes


def gate_cut(snapshot: Snapshot, parts: Parts, most: int) -> tuple[Tensor, Tensor]:
    """The outcomes that the gate ranks, grouped by seeker, and those before them.

    The later half of the gate's part is ranked; everything before is history for both heads. So a
    head is judged as it would serve: knowing who said yes to whom until then, and nothing later.
    """
    middle = len(parts.gate) // 2
    history = torch.cat([parts.training, parts.validation, parts.gate[:middle]])
    ranked = parts.gate[middle:]
    grouped = ranked[torch.argsort(snapshot.seekers[ranked], stable=True)]
    if len(grouped) > most:  # as many whole seekers as fit
        last = snapshot.seekers[grouped[most]]
        grouped = grouped[snapshot.seekers[grouped] < last]
    return grouped, history


def score_held_out(
    snapshot: Snapshot,
    rows: Tensor,
    history: Tensor,
    table: Tensor,
    head: Head,
    *,
    incumbent: HeadFiles | None,
) -> Evaluation:
    """Scores the outcomes of `gate_cut` by both heads; the table is that of the history."""
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
        incumbent_scores=_score_incumbent(snapshot, rows, counts, cosines, incumbent),
        incumbent_calibrated=incumbent is not None,
    )


def _score_incumbent(
    snapshot: Snapshot,
    rows: Tensor,
    counts: Tensor,
    cosines: Tensor,
    incumbent: HeadFiles | None,
) -> Floats:
    known: Floats = cosines.float().cpu().numpy()
    if incumbent is None:  # the encoder alone
        return known[:, 0]
    head = OnnxHead(incumbent)
    states = head.describe(
        _columns_for(snapshot, incumbent.columns),
        counts.cpu().numpy(),
        _table_for(head.table, snapshot.users_count),
    )
    seekers, candidates = (n[rows].cpu().numpy() for n in (snapshot.seekers, snapshot.candidates))
    scores = np.zeros(len(rows), np.float32)
    starts = np.flatnonzero(np.diff(seekers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        seeker = states[seekers[start : start + 1]]
        pair = (seeker, states[candidates[start:end]], known[start:end])
        scores[start:end] = head.score_cross(*pair)[:, 0]
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


def _table_for(table: Floats, users_count: int) -> Floats:
    """A head's table, with zeros for people who came after it."""
    extended = np.zeros((users_count, table.shape[1]), np.float32)
    size = min(len(table), users_count)
    extended[:size] = table[:size]
    return extended
