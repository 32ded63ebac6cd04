"""What the gate reads of exploration: pages shown meanwhile, whole, with both heads' scores.

Shapes: s slots, each one candidate of one page.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.ports import ScoredPages
from services.trainer.learning.onnx_head import Floats
from services.trainer.learning.snapshot import Parts, Snapshot, people_fold


def gate_slots(snapshot: Snapshot, parts: Parts, most: int) -> Tensor:
    """Slots of the pages shown since the first of the gate's outcomes, at most `most` of them.

    Whole pages, the newest; within a page by the candidates' numbers, so that their order tells
    nothing of how they were shown.
    """
    pages = snapshot.pages
    if not len(parts.gate) or not len(pages.seekers):
        return torch.zeros(0, dtype=torch.int64)
    recent = pages.times >= snapshot.times[parts.gate[0]].cpu()
    sizes = torch.bincount(pages.slot_pages, minlength=len(pages.seekers)) * recent
    newer = sizes.flip(0).cumsum(0).flip(0)  # slots of the page and of those after it
    chosen = (recent & (newer <= most))[pages.slot_pages]
    order = np.lexsort((pages.candidates.numpy(), pages.slot_pages.numpy()))
    slots = torch.from_numpy(order)
    return slots[chosen[slots]]


def slots_of(snapshot: Snapshot, slots: Tensor, folds: int, fold: int) -> Tensor:
    """Those of the slots that were shown to the people of one fold: whole pages."""
    seekers = snapshot.pages.seekers[snapshot.pages.slot_pages[slots]]
    seekers = seekers.to(snapshot.user_hashes.device)
    return slots[(people_fold(snapshot, seekers, folds) == fold).cpu()]


def slot_people(snapshot: Snapshot, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Seekers [s] and candidates [s], on the snapshot's device."""
    pages, device = snapshot.pages, snapshot.vectors.device
    seekers = pages.seekers[pages.slot_pages[slots]].to(device)
    return seekers, pages.candidates[slots].to(device)


def gather_pages(
    snapshot: Snapshot, slots: Tensor, challenger: Floats, incumbent: Floats
) -> ScoredPages:
    """Slots of whole pages, page by page, with their scores."""
    pages = snapshot.pages
    numbers, places = torch.unique(pages.slot_pages[slots], return_inverse=True)
    return ScoredPages(
        seekers=pages.seekers[numbers].int().numpy(),
        explored=pages.explored[numbers].numpy(),
        slot_pages=places.int().numpy(),
        ranks=pages.ranks[slots].int().numpy(),
        propensities=pages.propensities[slots].numpy(),
        levels=pages.levels[slots].int().numpy(),
        challenger_scores=challenger,
        incumbent_scores=incumbent,
    )


def join_pages(parts: list[ScoredPages]) -> ScoredPages | None:
    """Pages of several folds as one; None if there are none."""
    sizes = [len(part.seekers) for part in parts]
    if not sum(sizes):
        return None
    starts = np.cumsum([0, *sizes[:-1]])
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(ScoredPages)
    }
    moved = [part.slot_pages + start for part, start in zip(parts, starts, strict=True)]
    return ScoredPages(**{**columns, "slot_pages": np.concatenate(moved).astype(np.int32)})
