"""A snapshot on the device: arrays of people, outcomes and triplets, and how outcomes are split."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor

from services.chassis.tensors import read_metadata
from services.trainer.core.ports import Column
from services.trainer.core.recipe import Split

POSITIVE_LEVEL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """P pages that were shown while the domain explored, and their s slots, page by page.

    They stay on the CPU: nothing is learned from them, they are what the gate weighs.
    """

    seekers: Tensor
    """int64 [P]"""
    times: Tensor
    """int64 [P], microseconds since 1970."""
    explored: Tensor
    """bool [P]: whether the page was shown in a random order."""
    slot_pages: Tensor
    """int64 [s]"""
    candidates: Tensor
    """int64 [s]"""
    ranks: Tensor
    """int64 [s], from 1."""
    propensities: Tensor
    """float64 [s]: probability with which the candidate was shown at the rank."""
    levels: Tensor
    """int64 [s]: of the outcome that names the match; -1 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """U people, n outcomes (one a pair), m triplets."""

    vectors: Tensor
    """float32 [U, dim]"""
    columns: Tensor
    """float32 [U, columns], NaN for no value."""
    user_hashes: Tensor
    """int64 [U]: of the people's ids, so that folds do not depend on how people are numbered."""
    fields: tuple[Column, ...]
    encoder: str
    rule_version: str
    seekers: Tensor
    """int64 [n]"""
    candidates: Tensor
    """int64 [n]"""
    levels: Tensor
    """int64 [n]: 0 rejected, 1 expired, 2 accepted, 3 converted."""
    positive: Tensor
    """float64 [n]: 1 from accepted on."""
    weights: Tensor
    """float64 [n]"""
    times: Tensor
    """int64 [n], microseconds since 1970."""
    pair_hashes: Tensor
    """int64 [n]: equal for both directions of a pair: both fall on the same side of a split."""
    triplets: Tensor
    """int64 [m, 3]: anchor (person), positive and negative (outcomes)."""
    triplet_weights: Tensor
    """float32 [m]"""
    reciprocal: bool
    """Whether a match needs both people."""
    pages: Pages

    @property
    def users_count(self) -> int:
        """U."""
        return len(self.vectors)

    def fits(self, columns: tuple[Column, ...], encoder: str, dim: int) -> bool:
        """Whether a head that reads this has it here; as serving decides it."""
        fields = {field.name: field for field in self.fields}
        return (encoder, dim) == (self.encoder, self.vectors.shape[1]) and all(
            column.name in fields
            and fields[column.name].type == column.type
            and fields[column.name].members[: len(column.members)] == column.members
            for column in columns
        )

    def to(self, device: torch.device) -> "Snapshot":
        """The snapshot on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)


def read_snapshot(content: bytes) -> Snapshot:
    """Reads the file that CreateSnapshotResponse describes."""
    tensors = _in_order_of_hashes(load(content))
    layout = json.loads(read_metadata(content)["layout"])
    seekers, candidates = tensors["seekers"].long(), tensors["candidates"].long()
    levels = tensors["levels"].long()
    return Snapshot(
        vectors=tensors["vectors"].float(),
        columns=tensors["columns"],
        user_hashes=tensors["user_hashes"],
        fields=tuple(
            Column(name=c["name"], type=c["type"], members=tuple(c["members"]))
            for c in layout["columns"]
        ),
        encoder=layout["encoder"],
        rule_version=layout["rule_version"],
        seekers=seekers,
        candidates=candidates,
        levels=levels,
        positive=(levels >= POSITIVE_LEVEL).double(),
        weights=tensors["outcome_weights"].double(),
        times=tensors["times"],
        pair_hashes=_pair_hashes(tensors["user_hashes"].numpy(), seekers, candidates),
        triplets=tensors["triplets"].long(),
        triplet_weights=tensors["triplet_weights"],
        reciprocal=layout.get("reciprocal", False),
        pages=_read_pages(tensors),
    )


def _read_pages(tensors: dict[str, Tensor]) -> Pages:
    """Pages of a domain; snapshots of files have none."""
    none = torch.zeros(0, dtype=torch.int64)
    return Pages(
        seekers=tensors.get("page_seekers", none).long(),
        times=tensors.get("page_times", none),
        explored=tensors.get("page_explored", none.bool()),
        slot_pages=tensors.get("slot_pages", none).long(),
        candidates=tensors.get("slot_candidates", none).long(),
        ranks=tensors.get("slot_ranks", none).long(),
        propensities=tensors.get("slot_propensities", none.double()),
        levels=tensors.get("slot_levels", none).long(),
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows of the outcomes, int64 each: disjoint, together all, ordered by time."""

    training: Tensor
    validation: Tensor
    gate: Tensor

    @property
    def known(self) -> Tensor:
        """Those before the gate's."""
        return torch.cat([self.training, self.validation])

    @property
    def all(self) -> Tensor:
        """Every row."""
        return torch.cat([self.training, self.validation, self.gate])


def split_outcomes(snapshot: Snapshot, split: Split) -> Parts:
    """Splits by time, and outcomes of one moment by the hash of their pair."""
    order = _by_time(snapshot)
    first = int(split.training * len(order))
    second = int((split.training + split.validation) * len(order))
    return Parts(order[:first], order[first:second], order[second:])


def half(snapshot: Snapshot, rows: Tensor, side: int) -> Tensor:
    """One half of some rows; both directions of a pair are in the same half."""
    return rows[snapshot.pair_hashes[rows] // 16 % 2 == side]


def fold(snapshot: Snapshot, rows: Tensor, folds: int) -> Tensor:
    """The fold of each row, int64; independent of its half."""
    return snapshot.pair_hashes[rows] // 1024 % folds


def people_fold(snapshot: Snapshot, people: Tensor, folds: int) -> Tensor:
    """The fold of each person, int64."""
    return snapshot.user_hashes[people] // 1024 % folds


def triplets_within(snapshot: Snapshot, rows: Tensor) -> Tensor:
    """Indices of the triplets both of whose outcomes are among some rows."""
    inside = torch.zeros(len(snapshot.seekers), dtype=torch.bool, device=rows.device)
    inside[rows] = True
    both = inside[snapshot.triplets[:, 1]] & inside[snapshot.triplets[:, 2]]
    return torch.nonzero(both)[:, 0]


def count_outcomes(snapshot: Snapshot, rows: Tensor) -> Tensor:
    """float32 [U, 4]: outcomes given, positive given, received, positive received."""
    counts = torch.zeros(snapshot.users_count, 4, dtype=torch.float32, device=rows.device)
    ones = torch.ones(len(rows), dtype=torch.float32, device=rows.device)
    positive = snapshot.positive[rows].float()
    for column, people, values in (
        (0, snapshot.seekers, ones),
        (1, snapshot.seekers, positive),
        (2, snapshot.candidates, ones),
        (3, snapshot.candidates, positive),
    ):
        counts[:, column].index_add_(0, people[rows], values)
    return counts


def _in_order_of_hashes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outcomes and triplets in an order that does not depend on how people are numbered.

    Batches are drawn by place: so what is learned would depend on in which order people came.
    """
    hashes = tensors["user_hashes"].numpy()
    seekers, candidates = (hashes[tensors[who].numpy()] for who in ("seekers", "candidates"))
    order = np.lexsort((candidates, seekers))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    triplets, weights = tensors["triplets"].numpy().copy(), tensors["triplet_weights"].numpy()
    triplets[:, 1:] = place[triplets[:, 1:]]
    sorting = np.lexsort((triplets[:, 2], triplets[:, 1]))
    rows = torch.from_numpy(order)
    ordered = {
        name: tensors[name][rows]
        for name in ("seekers", "candidates", "levels", "outcome_weights", "times")
    }
    ordered["triplets"] = torch.from_numpy(triplets[sorting])
    ordered["triplet_weights"] = torch.from_numpy(weights[sorting])
    return tensors | ordered


def columns_for(snapshot: Snapshot, wanted: tuple[Column, ...]) -> npt.NDArray[np.float32]:
    """The snapshot's columns as another head reads them; a column that is gone has no values."""
    places = {field.name: index for index, field in enumerate(snapshot.fields)}
    columns = np.full((snapshot.users_count, len(wanted)), np.nan, np.float32)
    values = snapshot.columns.cpu().numpy()
    for index, column in enumerate(wanted):
        if column.name in places:
            columns[:, index] = values[:, places[column.name]]
    return columns


def _by_time(snapshot: Snapshot) -> Tensor:
    order = np.lexsort((snapshot.pair_hashes.cpu().numpy(), snapshot.times.cpu().numpy()))
    return torch.from_numpy(order).to(snapshot.times.device)


def _pair_hashes(user_hashes: npt.NDArray[np.int64], seekers: Tensor, candidates: Tensor) -> Tensor:
    """Hashes pairs by their users' ids: people are split alike however they are numbered."""
    left, right = user_hashes[seekers.numpy()], user_hashes[candidates.numpy()]
    low, high = np.minimum(left, right), np.maximum(left, right)
    mixed = low.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + high.view(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return torch.from_numpy((mixed >> np.uint64(1)).astype(np.int64))
