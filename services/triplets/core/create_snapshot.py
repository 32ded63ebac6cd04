"""Freezing a domain into arrays that a run learns from."""

import asyncio
import dataclasses
from dataclasses import dataclass

import numpy as np

from services.triplets.core.pages import Pages, settle_pages
from services.triplets.core.ports import DomainArrays, SnapshotWriter, TripletStore
from services.triplets.core.triplet import Triplets, form_triplets, hash_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A frozen domain in the artifact store."""

    digest: str
    users_count: int
    outcomes_count: int
    triplets_count: int


async def create_snapshot(
    store: TripletStore, writer: SnapshotWriter, tenant: str, domain: str, revision: int
) -> Snapshot:
    """Reads the domain, forms the triplets of the outcomes as of a revision, and stores both.

    The same arrays have the same digest. Nobody learns from someone who was erased meanwhile: the
    snapshot is then made anew, for as long as the caller waits.
    """
    while True:
        arrays = await store.read_arrays(tenant, domain, revision)
        # Seconds of pure computation for a large domain: off the loop.
        triplets = await asyncio.to_thread(_form, arrays)
        arrays = dataclasses.replace(arrays, pages=_settled(arrays))
        digest = await writer.write(arrays, triplets)
        users_count = len(arrays.user_ids)
        async with store.open_domain(tenant, domain) as unit:
            if await unit.record_snapshot(digest, users_count, arrays.read_revision):
                break
    return Snapshot(
        digest=digest,
        users_count=sum(map(bool, arrays.user_ids)),
        outcomes_count=len(arrays.seekers),
        triplets_count=len(triplets.indices),
    )


def _form(arrays: DomainArrays) -> Triplets:
    return form_triplets(
        arrays.seekers,
        arrays.candidates,
        arrays.levels,
        arrays.weights,
        hash_ids(arrays.user_ids),
    )


def _settled(arrays: DomainArrays) -> Pages:
    there = np.array([bool(user_id) for user_id in arrays.user_ids], np.bool_)
    return settle_pages(arrays.pages, there, arrays.seekers, arrays.candidates)
