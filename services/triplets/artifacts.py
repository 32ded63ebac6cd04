"""The artifact store: snapshots go there as safetensors files, training files come from there."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from services.chassis.artifacts import ArtifactError, ObjectArtifacts
from services.chassis.crashpoint import crashpoint
from services.triplets.core.file_dataset import FileArrays
from services.triplets.core.ports import DomainArrays, FileGoneError
from services.triplets.core.triplet import RULE_VERSION, Triplets

FILE_RULE_VERSION = "file-1"
"""Triplets of files are as given; the number says how lines are read."""


class SafetensorsSnapshots:
    """Writes snapshots as CreateSnapshotResponse describes them."""

    def __init__(self, artifacts: ObjectArtifacts) -> None:
        self._artifacts = artifacts

    async def write(self, arrays: DomainArrays, triplets: Triplets) -> str:
        """Stores a snapshot and returns its digest."""
        digest = await self._artifacts.put(await asyncio.to_thread(_pack, arrays, triplets))
        crashpoint("triplets.snapshot.stored")
        return digest

    async def erase(self, digest: str) -> None:
        """Deletes a snapshot, if it is there."""
        await self._artifacts.erase(digest)

    async def write_files(self, arrays: FileArrays) -> str:
        """Stores a snapshot of files, as CreateFileSnapshotResponse describes it."""
        digest = await self._artifacts.put(await asyncio.to_thread(_pack_files, arrays))
        crashpoint("triplets.file_snapshot.stored")
        return digest

    async def stream_file(self, digest: str) -> AsyncIterator[bytes]:
        """Yields a training file's bytes, chunk by chunk."""
        try:
            async for chunk in self._artifacts.stream(digest):
                yield chunk
        except ArtifactError as error:
            raise FileGoneError(str(error)) from error


def _pack(arrays: DomainArrays, triplets: Triplets) -> bytes:
    layout = {
        "encoder": arrays.schema.encoder,
        "rule_version": RULE_VERSION,
        "columns": [
            {"name": field.name, "type": field.type, "members": list(field.members)}
            for field in arrays.schema.columns
        ],
        "reciprocal": arrays.schema.reciprocal,
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "user_hashes": triplets.id_hashes.view(np.int64),
        "vectors": arrays.vectors,
        "columns": arrays.columns,
        "seekers": arrays.seekers,
        "candidates": arrays.candidates,
        "levels": arrays.levels,
        "outcome_weights": arrays.weights,
        "times": arrays.times,
        "triplets": triplets.indices,
        "triplet_weights": triplets.weights,
        "page_seekers": arrays.pages.seekers,
        "page_times": arrays.pages.times,
        "page_explored": arrays.pages.explored,
        "slot_pages": arrays.pages.slot_pages,
        "slot_candidates": arrays.pages.candidates,
        "slot_ranks": arrays.pages.ranks,
        "slot_propensities": arrays.pages.propensities,
        "slot_levels": arrays.pages.levels,
    }
    return _save(tensors, layout)


def _pack_files(arrays: FileArrays) -> bytes:
    layout = {
        "encoder": arrays.encoder,
        "rule_version": FILE_RULE_VERSION,
        "columns": [],
        "method": arrays.method,
        "tokens_count": arrays.tokens_count,
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "user_hashes": arrays.item_hashes,
        "vectors": arrays.vectors,
        "columns": np.zeros((len(arrays.vectors), 0), np.float32),
        "seekers": arrays.seekers,
        "candidates": arrays.candidates,
        "levels": arrays.levels,
        "outcome_weights": np.ones(len(arrays.seekers), np.float32),
        "times": np.zeros(len(arrays.seekers), np.int64),
        "triplets": arrays.triplets,
        "triplet_weights": arrays.triplet_weights,
        "held_out": arrays.held_out,
    }
    return _save(tensors, layout)


def _save(tensors: Mapping[str, npt.NDArray[Any]], layout: Mapping[str, object]) -> bytes:
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # One metadata entry: safetensors does not promise an order for several.
    return save(contiguous, metadata={"layout": json.dumps(layout, sort_keys=True)})
