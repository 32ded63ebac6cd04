"""DomainService and SnapshotService: what control plane and trainers ask."""

import itertools

from trine.triplets.v1 import (
    domain_service_pb2,
    domain_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)

from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context
from services.triplets.core.create_snapshot import create_snapshot
from services.triplets.core.erase_user import hash_id
from services.triplets.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    UserNotFoundError,
)
from services.triplets.core.ports import DomainCounts, SnapshotWriter, TripletStore
from services.triplets.core.sharing import (
    SHARED,
    check_participants,
    count_together,
    participants,
)

PAGE_DOMAINS_MAX = 1_000
TRIPLETS_MAX = 2**53
PAGE_SNAPSHOTS_MAX = 1_000


class DomainServicer(domain_service_pb2_grpc.DomainServiceServicer):
    """Counts per domain."""

    def __init__(self, store: TripletStore) -> None:
        self._store = store

    async def GetDomain(
        self, request: domain_service_pb2.GetDomainRequest, context: Context
    ) -> domain_service_pb2.GetDomainResponse:
        counts = await self._counts(request.tenant, request.domain)
        return domain_service_pb2.GetDomainResponse(domain=_to_proto(counts))

    async def ListDomains(
        self, request: domain_service_pb2.ListDomainsRequest, context: Context
    ) -> domain_service_pb2.ListDomainsResponse:
        after = request.page_token.partition("/")[::2]
        size = _page_size(request.page_size, PAGE_DOMAINS_MAX)
        # Shared domains come first: their owner sorts before every tenant.
        found = [c for c in await self._shared() if (c.tenant, c.domain) > after]
        found += await self._store.list_counts(("", "") if after[0] == SHARED else after, size)
        found = found[:size]
        token = f"{found[-1].tenant}/{found[-1].domain}" if len(found) == size else ""
        return domain_service_pb2.ListDomainsResponse(
            domains=[_to_proto(counts) for counts in found], next_page_token=token
        )

    async def CountOutcomes(
        self, request: domain_service_pb2.CountOutcomesRequest, context: Context
    ) -> domain_service_pb2.CountOutcomesResponse:
        counts = await self._store.count_outcomes(request.tenant, request.domain)
        if counts is None:
            raise DomainNotFoundError(request.domain)
        return domain_service_pb2.CountOutcomesResponse(
            outcomes_count=counts.outcomes_count,
            positives_count=counts.positives_count,
            seekers_count=counts.seekers_count,
        )

    async def RecordTraining(
        self, request: domain_service_pb2.RecordTrainingRequest, context: Context
    ) -> domain_service_pb2.RecordTrainingResponse:
        count = request.trained_triplets_count
        if not 0 <= count <= TRIPLETS_MAX:
            raise FieldInvalidError("trained_triplets_count", f"must be 0 to {TRIPLETS_MAX}")
        if request.tenant == SHARED:
            await self._store.save_shared_trained(request.domain, count)
        else:
            async with self._store.open_domain(request.tenant, request.domain) as unit:
                await unit.save_trained_count(count)
                crashpoint("triplets.training.written")
        return domain_service_pb2.RecordTrainingResponse()

    async def _counts(self, tenant: str, domain: str) -> DomainCounts:
        if tenant == SHARED:
            parts = check_participants(await self._store.list_shared(domain), domain)
            trained = await self._store.read_shared_trained()
            return count_together(parts, trained.get(domain, 0))
        counts = await self._store.read_counts(tenant, domain)
        if counts is None:
            raise DomainNotFoundError(domain)
        return counts

    async def _shared(self) -> list[DomainCounts]:
        parts = participants(await self._store.list_shared(""))
        trained = await self._store.read_shared_trained()
        return [
            count_together(list(together), trained.get(domain, 0))
            for domain, together in itertools.groupby(parts, lambda part: part.counts.domain)
        ]


class SnapshotServicer(snapshot_service_pb2_grpc.SnapshotServiceServicer):
    """Freezes domains and says who is in what was frozen."""

    def __init__(self, store: TripletStore, writer: SnapshotWriter) -> None:
        self._store = store
        self._writer = writer

    async def CreateSnapshot(
        self, request: snapshot_service_pb2.CreateSnapshotRequest, context: Context
    ) -> snapshot_service_pb2.CreateSnapshotResponse:
        snapshot = await create_snapshot(
            self._store, self._writer, request.tenant, request.domain, request.revision
        )
        crashpoint("triplets.snapshot.recorded")
        return snapshot_service_pb2.CreateSnapshotResponse(
            digest=snapshot.digest,
            users_count=snapshot.users_count,
            outcomes_count=snapshot.outcomes_count,
            triplets_count=snapshot.triplets_count,
        )

    async def ListUserSnapshots(
        self, request: snapshot_service_pb2.ListUserSnapshotsRequest, context: Context
    ) -> snapshot_service_pb2.ListUserSnapshotsResponse:
        size = _page_size(request.page_size, PAGE_SNAPSHOTS_MAX)
        tenant, domain, user_id = request.tenant, request.domain, request.user_id
        if domain and await self._store.read_schema(tenant, domain) is None:
            raise DomainNotFoundError(domain)
        key = (tenant, domain, user_id, hash_id(tenant, user_id))
        if not await self._store.knows_user(*key):
            raise UserNotFoundError("user_id", user_id)
        after = _read_token(request.page_token)
        found = await self._store.list_user_snapshots(*key, after=after, limit=size)
        kind = snapshot_service_pb2.ListUserSnapshotsResponse
        return kind(
            snapshots=[
                kind.UserSnapshot(domain=one.domain, digest=one.digest, erased=one.erased)
                for one in found
            ],
            next_page_token=f"{found[-1].domain}/{found[-1].snapshot_id}"
            if len(found) == size
            else "",
        )

    async def ListOutdatedSnapshots(
        self, request: snapshot_service_pb2.ListOutdatedSnapshotsRequest, context: Context
    ) -> snapshot_service_pb2.ListOutdatedSnapshotsResponse:
        digests = await self._store.list_outdated_snapshots()
        return snapshot_service_pb2.ListOutdatedSnapshotsResponse(digests=digests)

    async def DropSnapshot(
        self, request: snapshot_service_pb2.DropSnapshotRequest, context: Context
    ) -> snapshot_service_pb2.DropSnapshotResponse:
        await self._writer.erase(request.digest)
        crashpoint("triplets.snapshot.erased")
        await self._store.drop_snapshot(request.digest)
        return snapshot_service_pb2.DropSnapshotResponse()


def _page_size(asked: int, size_max: int) -> int:
    if asked < 0:
        raise FieldInvalidError("page_size", "must not be negative")
    return min(asked or size_max, size_max)


def _read_token(token: str) -> tuple[str, int]:
    domain, _, snapshot_id = token.partition("/")
    if token and not snapshot_id.isdecimal():
        raise FieldInvalidError("page_token", "is none of an answer's")
    return domain, int(snapshot_id or 0)


def _to_proto(counts: DomainCounts) -> domain_service_pb2.Domain:
    return domain_service_pb2.Domain(
        tenant=counts.tenant,
        domain=counts.domain,
        revision=counts.revision,
        triplets_count=counts.triplets_count,
        trained_triplets_count=counts.trained_triplets_count,
        positives_count=counts.positives_count,
    )
