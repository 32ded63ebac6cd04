"""Freezing a domain into arrays that a run learns from."""

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.triplets.core.pages import Pages, settle_pages
from services.triplets.core.ports import DomainArrays, SnapshotWriter, TripletStore
from services.triplets.core.sharing import SHARED, check_participants, join_domains
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

    The same arrays have the same digest. Nobody learns from someone who was erased meanwhile, nor
    from a tenant that does not share any more: the snapshot is then made anew, for as long as the
    caller waits.

    Raises:
        DomainNotFoundError: there is no such domain.
        TenantsTooFewError: too few tenants share the domain.
    """
    while True:
        revisions = {tenant: revision}
        if tenant == SHARED:
            parts = check_participants(await store.list_shared(domain), domain)
            revisions = {part.counts.tenant: part.counts.revision for part in parts}
        read = [await store.read_arrays(owner, domain, r) for owner, r in revisions.items()]
        taken = {
            o: (len(a.user_ids), a.read_revision) for o, a in zip(revisions, read, strict=True)
        }
        # Seconds of pure computation for a large domain: off the loop.
        arrays = read[0]
        if tenant == SHARED:
            arrays = await asyncio.to_thread(join_domains, list(revisions), read)
        del read  # joined, they stand in memory once
        triplets = await asyncio.to_thread(_form, arrays)
        arrays = dataclasses.replace(arrays, pages=_settled(arrays))
        digest = await writer.write(arrays, triplets)
        if await _record(store, digest, domain, taken, shared=tenant == SHARED):
            break
    return Snapshot(
        digest=digest,
        users_count=sum(map(bool, arrays.user_ids)),
        outcomes_count=len(arrays.seekers),
        triplets_count=len(triplets.indices),
    )


async def _record(
    store: TripletStore,
    digest: str,
    domain: str,
    taken: Mapping[str, tuple[int, int]],
    *,
    shared: bool,
) -> bool:
    """Remembers a snapshot in each of its domains; says whether it may still be learned from.

    One that may not is stored all the same: whoever is erased later is to be found in it.
    """
    fit = True
    for tenant, (users_count, since) in taken.items():
        async with store.open_domain(tenant, domain) as unit:
            fit &= await unit.record_snapshot(digest, users_count, since)
            fit &= unit.shared or not shared
    return fit


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
