"""A snapshot of files on the device: items, what anchors prefer, and what they are tested by.

Shapes: U items, d dim, n outcomes, p positive outcomes, k explicit negatives of each.
"""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor

from services.chassis.tensors import read_metadata
from services.trainer.learning.snapshot import POSITIVE_LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Positive outcomes with the negatives of their triplets."""

    anchors: Tensor
    """int64 [p]"""
    positives: Tensor
    """int64 [p]: items."""
    negatives: Tensor
    """int64 [p, k]: items."""
    absent: Tensor
    """bool [p, k]: which of those are none."""
    weights: Tensor
    """float32 [p, max(k, 1)], of each triplet; 0 for none. Without a negative the first counts."""

    @property
    def size(self) -> int:
        """P."""
        return len(self.positives)

    @property
    def row_weights(self) -> Tensor:
        """Mean weight [p] of the triplets of a positive."""
        return self.weights.sum(1) / (self.weights > 0).sum(1).clamp(min=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What anchors are to rank: outcomes [n], those of one anchor standing together."""

    anchors: Tensor
    items: Tensor
    levels: npt.NDArray[np.int32]
    ties: npt.NDArray[np.int64]
    """What equal scores are ordered by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileArrays:
    """The content of a snapshot of files."""

    vectors: Tensor
    """float32 [U, d]"""
    item_hashes: npt.NDArray[np.int64]
    encoder: str
    method: str
    tokens_count: int
    training: Group
    held_out: Group
    trial: Trial


def read_file_arrays(
    content: bytes, others: int, outcomes_max: int, device: torch.device
) -> FileArrays:
    """Reads the file that CreateFileSnapshotResponse describes."""
    tensors = load(content)
    layout = json.loads(read_metadata(content)["layout"])
    held_out = tensors["held_out"].bool()
    triplets = tensors["triplets"].long()
    inside = held_out[triplets[:, 1]]
    hashes: npt.NDArray[np.int64] = tensors["user_hashes"].numpy()
    return FileArrays(
        vectors=tensors["vectors"].float().to(device),
        item_hashes=hashes,
        encoder=layout["encoder"],
        method=layout["method"],
        tokens_count=layout["tokens_count"],
        training=_group(tensors, triplets, ~inside, device),
        held_out=_group(tensors, triplets, inside, device),
        trial=_trial(tensors, hashes, others, outcomes_max, device=device),
    )


def _group(
    tensors: dict[str, Tensor], triplets: Tensor, chosen: Tensor, device: torch.device
) -> Group:
    """Triplets by their positive; the triplets of a snapshot are sorted by it."""
    rows, weights = triplets[chosen], tensors["triplet_weights"][chosen]
    positives, group, counts = rows[:, 1].unique(return_inverse=True, return_counts=True)
    place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[group]
    shape = (len(positives), int(counts.max()) if len(counts) else 1)
    candidates = tensors["candidates"].long()
    negatives = torch.zeros(shape, dtype=torch.int64)
    absent = torch.ones(shape, dtype=torch.bool)
    by_place = torch.zeros(shape)
    negatives[group, place] = candidates[rows[:, 2].clamp(min=0)]
    absent[group, place] = rows[:, 2] < 0
    by_place[group, place] = weights
    return Group(
        anchors=tensors["seekers"].long()[positives].to(device),
        positives=candidates[positives].to(device),
        negatives=negatives.to(device),
        absent=absent.to(device),
        weights=by_place.to(device),
    )


def _trial(
    tensors: dict[str, Tensor],
    hashes: npt.NDArray[np.int64],
    others: int,
    outcomes_max: int,
    *,
    device: torch.device,
) -> Trial:
    """Each held-out anchor among its own items and some of the other held-out lines.

    Which others is decided by the anchor's hash; as many anchors as fit into `outcomes_max`.
    """
    held = tensors["held_out"].numpy().astype(bool)
    seekers = tensors["seekers"].numpy()[held]
    items, levels = tensors["candidates"].numpy()[held], tensors["levels"].numpy()[held]
    pool = np.unique(items)
    pool = pool[np.argsort(hashes[pool], kind="stable")]
    found: list[tuple[int, int, int]] = []
    order = np.argsort(seekers, kind="stable")
    anchors, starts = np.unique(seekers[order], return_index=True)
    for anchor, start, end in zip(anchors, starts, [*starts[1:], len(order)], strict=False):
        own = order[start:end]
        best: dict[int, int] = {}
        for row in own:
            best[int(items[row])] = max(best.get(int(items[row]), 0), int(levels[row]))
        if len(found) + len(best) + others > outcomes_max:
            break
        at = int(hashes[anchor]) % len(pool)
        near = np.roll(pool, -at)[: others + len(best) + 1]
        rest = [int(item) for item in near if item not in best and item != anchor][:others]
        found += [(int(anchor), item, level) for item, level in best.items()]
        found += [(int(anchor), item, 0) for item in rest]
    table = np.array(found, np.int64).reshape(-1, 3)
    return Trial(
        anchors=torch.from_numpy(table[:, 0].copy()).to(device),
        items=torch.from_numpy(table[:, 1].copy()).to(device),
        levels=table[:, 2].astype(np.int32),
        ties=hashes[table[:, 1]],
    )


def is_positive(trial: Trial) -> npt.NDArray[np.float64]:
    """1 for what an anchor prefers [n]."""
    return (trial.levels >= POSITIVE_LEVEL).astype(np.float64)
