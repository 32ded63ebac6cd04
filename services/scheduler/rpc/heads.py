"""HeadService and PromotionService: which heads there are and which are in use."""

import dataclasses

from trine.scheduler.v1 import (
    head_pb2,
    head_report_pb2,
    head_service_pb2,
    head_service_pb2_grpc,
    promotion_service_pb2,
    promotion_service_pb2_grpc,
)

from services.chassis.auth import current_tenant
from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context
from services.scheduler.core.compare_heads import compare_heads
from services.scheduler.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    HeadNotFoundError,
)
from services.scheduler.core.head import SHARED, Challenger, Head
from services.scheduler.core.in_use import name_of
from services.scheduler.core.lineage import read_lineage, read_origin
from services.scheduler.core.list_user_heads import list_user_heads
from services.scheduler.core.pin_head import pin_head, unpin_head
from services.scheduler.core.ports import Clock, Manifests, SchedulerStore, TripletCounts
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.messages import (
    comparison_to_proto,
    head_to_proto,
    lineage_to_proto,
    report_to_proto,
    user_head_to_proto,
)
from services.scheduler.metrics import ROLLBACKS
from services.scheduler.rpc.pages import PAGE_MAX, page_size


class HeadServicer(head_service_pb2_grpc.HeadServiceServicer):
    """Reads heads, rolls them back and pins them."""

    def __init__(
        self, store: SchedulerStore, triplets: TripletCounts, manifests: Manifests, clock: Clock
    ) -> None:
        self._store = store
        self._triplets = triplets
        self._manifests = manifests
        self._clock = clock

    async def ListHeads(
        self, request: head_service_pb2.ListHeadsRequest, context: Context
    ) -> head_service_pb2.ListHeadsResponse:
        size = page_size(request.page_size)
        tenant, domain = await self._domain(request.domain)
        heads = await self._store.list_heads(tenant, domain, request.page_token, size + 1)
        # The tier above stands after the tenant's own, where there is room for it.
        above = await self._store.head_in_use(SHARED, domain)
        if above is not None:
            own = await self._store.head_in_use(tenant, domain)
            heads.append(dataclasses.replace(above, promoted=own is None))
        pinned = await self._store.pinned_head(tenant, domain)
        return head_service_pb2.ListHeadsResponse(
            heads=[head_to_proto(head) for head in heads[:size]],
            next_page_token=heads[size - 1].head if len(heads) > size else "",
            pinned_head="" if pinned is None else pinned or name_of(above),
        )

    async def ListUserHeads(
        self, request: head_service_pb2.ListUserHeadsRequest, context: Context
    ) -> head_service_pb2.ListUserHeadsResponse:
        size = page_size(request.page_size)
        heads = await list_user_heads(
            self._store,
            self._triplets,
            current_tenant(),
            request.user_id,
            request.domain,
            before=request.page_token,
            limit=size + 1,
        )
        return head_service_pb2.ListUserHeadsResponse(
            heads=[user_head_to_proto(head) for head in heads[:size]],
            next_page_token=heads[size - 1].learned.head.head if len(heads) > size else "",
        )

    async def GetHead(
        self, request: head_service_pb2.GetHeadRequest, context: Context
    ) -> head_pb2.Head:
        head = await self._store.read_head(current_tenant(), request.head)
        return head_to_proto(head or await self._domain_head(request.head))

    async def GetHeadVerdict(
        self, request: head_service_pb2.GetHeadVerdictRequest, context: Context
    ) -> head_report_pb2.HeadVerdict:
        return report_to_proto(await self._head(request.head))

    async def GetHeadLineage(
        self, request: head_service_pb2.GetHeadLineageRequest, context: Context
    ) -> head_report_pb2.HeadLineage:
        return lineage_to_proto(
            await read_lineage(self._store, self._manifests, current_tenant(), request.head)
        )

    async def CompareHeads(
        self, request: head_service_pb2.CompareHeadsRequest, context: Context
    ) -> head_report_pb2.HeadComparison:
        for field in ("head", "other"):
            if not getattr(request, field):
                raise FieldInvalidError(field, "must be given")
        head, other = [
            await read_origin(self._store, self._manifests, current_tenant(), name)
            for name in (request.head, request.other)
        ]
        return comparison_to_proto(request.head, request.other, compare_heads(head, other))

    async def RollBackHead(
        self, request: head_service_pb2.RollBackHeadRequest, context: Context
    ) -> head_service_pb2.RollBackHeadResponse:
        tenant, domain = await self._domain(request.domain)
        async with self._store.begin(tenant) as unit:
            head, rolled_back = await roll_back_head(
                unit, self._clock, tenant, domain, request.head
            )
            crashpoint("scheduler.rollback.written")
        crashpoint("scheduler.rollback.committed")
        ROLLBACKS.inc()
        return head_service_pb2.RollBackHeadResponse(
            domain=domain, head=head, rolled_back_head=rolled_back
        )

    async def PinHead(
        self, request: head_service_pb2.PinHeadRequest, context: Context
    ) -> head_service_pb2.PinHeadResponse:
        tenant, domain = await self._domain(request.domain)
        async with self._store.begin(tenant) as unit:
            head, previous = await pin_head(unit, self._clock, tenant, domain, request.head)
        return head_service_pb2.PinHeadResponse(domain=domain, head=head, previous_head=previous)

    async def UnpinHead(
        self, request: head_service_pb2.UnpinHeadRequest, context: Context
    ) -> head_service_pb2.UnpinHeadResponse:
        tenant, domain = await self._domain(request.domain)
        async with self._store.begin(tenant) as unit:
            head = await unpin_head(unit, tenant, domain)
        return head_service_pb2.UnpinHeadResponse(domain=domain, head=head)

    async def _head(self, name: str) -> Head:
        head = await self._store.read_head(current_tenant(), name)
        if head is None:
            raise HeadNotFoundError("", name)
        return head

    async def _domain_head(self, name: str) -> Head:
        """A domain head, as far as the tenant has the domain."""
        head = await self._store.read_head(SHARED, name)
        if head is None:
            raise HeadNotFoundError("", name)
        try:
            tenant, domain = await self._domain(head.domain)
        except DomainNotFoundError:
            raise HeadNotFoundError("", name) from None
        own = await self._store.head_in_use(tenant, domain)
        return dataclasses.replace(head, promoted=head.promoted and own is None)

    async def _domain(self, domain: str) -> tuple[str, str]:
        if not domain:
            raise FieldInvalidError("domain", "must be given")
        counts = await self._triplets.get(current_tenant(), domain)
        return counts.tenant, counts.domain


class PromotionServicer(promotion_service_pb2_grpc.PromotionServiceServicer):
    """Tells serving what shall be in use."""

    def __init__(self, store: SchedulerStore) -> None:
        self._store = store

    async def ListPromotedHeads(
        self, request: promotion_service_pb2.ListPromotedHeadsRequest, context: Context
    ) -> promotion_service_pb2.ListPromotedHeadsResponse:
        size = page_size(request.page_size, PAGE_MAX)
        tenant, _, domain = request.page_token.partition("/")
        heads = await self._store.list_promoted((tenant, domain), size)
        token = f"{heads[-1].tenant}/{heads[-1].domain}" if len(heads) == size else ""
        return promotion_service_pb2.ListPromotedHeadsResponse(
            heads=[
                promotion_service_pb2.PromotedHead(
                    tenant=head.tenant,
                    domain=head.domain,
                    head=head.head,
                    tier=head.tier,
                    manifest_digest=head.manifest_digest,
                    exploration=head.exploration,
                    challenger=_challenger(head.challenger),
                )
                for head in heads
            ],
            next_page_token=token,
        )

    async def FindUnearnedHeads(
        self, request: promotion_service_pb2.FindUnearnedHeadsRequest, context: Context
    ) -> promotion_service_pb2.FindUnearnedHeadsResponse:
        if len(request.heads) > PAGE_MAX:
            raise FieldInvalidError("heads", f"must be {PAGE_MAX} at most")
        found = [await self._store.read_head(key.tenant, key.head) for key in request.heads]
        return promotion_service_pb2.FindUnearnedHeadsResponse(
            unearned_heads=[
                key
                for key, head in zip(request.heads, found, strict=True)
                if head is None or not head.verdict.passed
            ]
        )


def _challenger(
    challenger: Challenger | None,
) -> promotion_service_pb2.PromotedHead.Challenger | None:
    if challenger is None:
        return None
    return promotion_service_pb2.PromotedHead.Challenger(**dataclasses.asdict(challenger))
