"""ProfileService: the stream that keeps serving's candidates current."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from trine.triplets.v1 import profile_service_pb2 as pb
from trine.triplets.v1 import profile_service_pb2_grpc

from services.chassis.interceptors import Context
from services.triplets.core.ports import (
    Change,
    Numbers,
    PairBatch,
    ProfileBatch,
    TallyBatch,
    TripletStore,
)
from services.triplets.rpc.schemas import schema_to_proto

POLL_SECONDS = 0.2
"""How soon a stream notices what another process has committed."""
GATHER_SECONDS = 0.01
"""How long changes gather before the next reading: each costs a dozen round trips to the database.
The first change after a quiet time is read at once."""


class ProfileServicer(profile_service_pb2_grpc.ProfileServiceServicer):
    """Streams profiles and tallies."""

    def __init__(self, store: TripletStore) -> None:
        self._store = store

    async def WatchProfiles(
        self, request: pb.WatchProfilesRequest, context: Context
    ) -> AsyncIterator[pb.WatchProfilesResponse]:
        seen = {(c.tenant, c.domain): c.revision for c in request.cursors}
        complete = False
        while True:
            quiet = True
            for key, revision in (await self._store.read_revisions()).items():
                if seen.get(key, -1) >= revision:
                    continue
                quiet = False
                async for change in self._store.read_changes(*key, seen.get(key, -1)):
                    yield _to_proto(*key, change)
                    seen[key] = change.revision
            if not complete:
                complete = True
                yield pb.WatchProfilesResponse()
            if quiet:
                await self._store.wait_for_change(POLL_SECONDS)
            else:
                await asyncio.sleep(GATHER_SECONDS)


def _to_proto(tenant: str, domain: str, change: Change) -> pb.WatchProfilesResponse:
    return pb.WatchProfilesResponse(
        tenant=tenant,
        domain=domain,
        revision=change.revision,
        schema=schema_to_proto(change.schema),
        removals=None if change.removals is None else _removals(change.removals),
        profiles=None if change.profiles is None else _profiles(change.profiles),
        tallies=None if change.tallies is None else _tallies(change.tallies),
        pairs=None if change.pairs is None else _pairs(change.pairs),
    )


def _removals(numbers: Numbers) -> pb.WatchProfilesResponse.Removals:
    return pb.WatchProfilesResponse.Removals(numbers=numbers.astype("<i4").tobytes())


def _profiles(batch: ProfileBatch) -> pb.WatchProfilesResponse.Profiles:
    return pb.WatchProfilesResponse.Profiles(
        user_ids=batch.user_ids,
        numbers=batch.numbers.astype("<i4").tobytes(),
        vectors=batch.vectors.astype("<f2").tobytes(),
        columns=batch.columns.astype("<f8").tobytes(),
        strings={
            name: pb.WatchProfilesResponse.Strings(values=values)
            for name, values in batch.strings.items()
        },
        lists={name: _lists(rows) for name, rows in batch.lists.items()},
        points={name: points.astype("<f8").tobytes() for name, points in batch.points.items()},
    )


def _lists(rows: list[list[str]]) -> pb.WatchProfilesResponse.Lists:
    return pb.WatchProfilesResponse.Lists(
        values=[value for row in rows for value in row],
        counts=np.array([len(row) for row in rows], "<i4").tobytes(),
    )


def _tallies(batch: TallyBatch) -> pb.WatchProfilesResponse.Tallies:
    return pb.WatchProfilesResponse.Tallies(
        numbers=batch.numbers.astype("<i4").tobytes(),
        counts=batch.counts.astype("<i4").tobytes(),
    )


def _pairs(batch: PairBatch) -> pb.WatchProfilesResponse.Pairs:
    return pb.WatchProfilesResponse.Pairs(
        numbers=batch.numbers.astype("<i4").tobytes(),
        standing=batch.standing.tobytes(),
        times=batch.times.astype("<i8").tobytes(),
    )
