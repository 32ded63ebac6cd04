"""Snapshots as safetensors files in the artifact store."""

import asyncio
import json

import numpy as np
from safetensors.numpy import save

from services.chassis.artifacts import ArtifactStore
from services.triplets.core.ports import DomainArrays
from services.triplets.core.triplet import RULE_VERSION, Triplets


class SafetensorsSnapshots:
    """Writes snapshots as CreateSnapshotResponse describes them."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    async def write(self, arrays: DomainArrays, triplets: Triplets) -> str:
        """Stores a snapshot and returns its digest."""
        return await self._artifacts.put(await asyncio.to_thread(_pack, arrays, triplets))


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
    tensors = {
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
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # One metadata entry: safetensors does not promise an order for several.
    return save(contiguous, metadata={"layout": json.dumps(layout, sort_keys=True)})
