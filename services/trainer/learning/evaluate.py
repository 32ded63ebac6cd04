"""How well held-out outcomes are ranked, and when training has gone on long enough.

Shapes: n outcomes.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.trainer.learning.light import LightTraining
from services.trainer.learning.mixed_model import Fit
from services.trainer.learning.snapshot import Snapshot, half

RANKS = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Outcomes to be ranked, by effects that do not know them."""

    rows: Tensor
    effects: Tensor
    """[U, 2]"""
    logits: Tensor
    """[rows] of the linear stage."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What an evaluation saw."""

    ndcg_at_10: Floats
    """One a seeker who had both a positive and another outcome."""
    losses: Floats
    """Log-loss, one an outcome."""


def hold_out(
    snapshot: Snapshot, light: LightTraining, fit: Fit, known: Tensor, part: Tensor
) -> list[HeldOut]:
    """Holds out a part, half at a time: the other half is history, as it would be in service.

    All outcomes of a seeker within a half are ranked under the same effects: counters that grew
    from one to the next would tell which were positive.
    """
    held: list[HeldOut] = []
    for side in (0, 1):
        rows = half(snapshot, part, side)
        if len(rows):
            history = torch.cat([known, half(snapshot, part, 1 - side)])
            effects = light.effects(fit, history)
            held.append(HeldOut(rows, effects, light.logits(fit, rows, effects)))
    return held


def measure(snapshot: Snapshot, rows: Tensor, logits: Tensor) -> Measure:
    """Measures scores of some outcomes."""
    positive = snapshot.positive[rows].cpu().numpy()
    scores = logits.detach().double().cpu().numpy()
    seekers = snapshot.seekers[rows].cpu().numpy()
    ties = snapshot.pair_hashes[rows].cpu().numpy()
    losses = np.logaddexp(0, scores) - positive * scores
    return Measure(ndcg_by_seeker(seekers, positive, scores, ties), losses)


def join(measures: list[Measure]) -> Measure:
    """Several measures as one."""
    return Measure(
        np.concatenate([m.ndcg_at_10 for m in measures] or [np.empty(0)]),
        np.concatenate([m.losses for m in measures] or [np.empty(0)]),
    )


def ndcg_by_seeker(
    seekers: npt.NDArray[np.int64], positive: Floats, scores: Floats, ties: npt.NDArray[np.int64]
) -> Floats:
    """NDCG@10 (Järvelin and Kekäläinen 2002) of each seeker with both kinds of outcome."""
    if not len(seekers):
        return np.empty(0)
    _, index = np.unique(seekers, return_inverse=True)
    found = _dcg(index, positive, np.lexsort((ties, -scores, index)))
    ideal = _dcg(index, positive, np.lexsort((-positive, index)))
    yes = np.bincount(index, positive)
    ranked = (yes > 0) & (yes < np.bincount(index))
    ratios: Floats = found[ranked] / ideal[ranked]
    return ratios


def _dcg(index: npt.NDArray[np.intp], gains: Floats, order: npt.NDArray[np.intp]) -> Floats:
    grouped = index[order]
    ranks = np.arange(len(order)) - np.searchsorted(grouped, grouped, side="left")
    discounts = np.where(ranks < RANKS, 1 / np.log2(ranks + 2.0), 0.0)
    return np.bincount(grouped, gains[order] * discounts).astype(np.float64)


class EarlyStopping:
    """Chooses the number of epochs after which a stage is better than without it, or 0.

    An epoch counts if both NDCG@10 and log-loss are no worse than before the first, and one of them
    better by more than a standard error, pair by pair. Of those the one with the best NDCG@10 is
    chosen.
    """

    def __init__(self, baseline: Measure, patience: int) -> None:
        self._baseline = baseline
        self._patience = patience
        self.best_epoch = 0
        self.best_gain = -math.inf
        self.best_sum = -math.inf
        self.best_sum_epoch = 0

    def see(self, epoch: int, measured: Measure) -> bool:
        """Takes in what `epoch` (from 1) gave; says whether to go on."""
        ndcg, ndcg_error = _gain(measured.ndcg_at_10 - self._baseline.ndcg_at_10)
        loss, loss_error = _gain(self._baseline.losses - measured.losses)
        total = ndcg / ndcg_error + loss / loss_error
        if total > self.best_sum:
            self.best_sum, self.best_sum_epoch = total, epoch
        no_worse = ndcg >= 0 and loss >= 0
        better = ndcg > ndcg_error or loss > loss_error
        if no_worse and better and ndcg > self.best_gain:
            self.best_gain, self.best_epoch = ndcg, epoch
        return epoch - self.best_sum_epoch < self._patience

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        names = ("best_epoch", "best_gain", "best_sum", "best_sum_epoch")
        return {name: float(getattr(self, name)) for name in names}

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from a checkpoint."""
        self.best_epoch = int(state["best_epoch"])
        self.best_gain = state["best_gain"]
        self.best_sum = state["best_sum"]
        self.best_sum_epoch = int(state["best_sum_epoch"])


def _gain(differences: Floats) -> tuple[float, float]:
    """Mean and standard error."""
    if not len(differences):
        return 0.0, math.inf
    error = float(differences.std()) / math.sqrt(len(differences))
    return float(differences.mean()), error + 1e-12
