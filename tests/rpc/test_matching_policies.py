"""Matching policies over the wire: chosen by the tenant, told to serving."""

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import matching_service_pb2 as pb
from trine.scheduler.v1 import (
    matching_service_pb2_grpc,
    promotion_service_pb2,
    promotion_service_pb2_grpc,
)

from tests.support.scheduler import Scheduler, open_service
from tests.support.server import ACME, MESH, OTHER, refused


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def get(scheduler: Scheduler, domain: str = "dating", metadata: Any = ACME) -> Any:
    stub: Any = matching_service_pb2_grpc.MatchingServiceStub(scheduler.channel)
    return stub.GetMatchingPolicy(pb.GetMatchingPolicyRequest(domain=domain), metadata=metadata)


def put(scheduler: Scheduler, domain: str = "dating", metadata: Any = ACME, **content: Any) -> Any:
    stub: Any = matching_service_pb2_grpc.MatchingServiceStub(scheduler.channel)
    policy = pb.MatchingPolicy(domain=domain, **content)
    request = pb.PutMatchingPolicyRequest(policy=policy)
    return stub.PutMatchingPolicy(request, metadata=metadata)


async def told(scheduler: Scheduler) -> list[tuple[str, str, float]]:
    """What serving is told to have in use."""
    stub: Any = promotion_service_pb2_grpc.PromotionServiceStub(scheduler.channel)
    request = promotion_service_pb2.ListPromotedHeadsRequest()
    response = await stub.ListPromotedHeads(request, metadata=MESH)
    return [(head.domain, head.head, head.exploration) for head in response.heads]


async def test_a_domain_explores_nothing_until_it_is_told_to(scheduler: Scheduler) -> None:
    before = await get(scheduler)
    assert before == pb.MatchingPolicy(domain="dating", exploration=0.0)
    changed = await put(scheduler, exploration=0.25)
    assert changed.exploration == 0.25
    assert await get(scheduler) == changed
    assert (await get(scheduler, "hiring")).exploration == 0
    assert await told(scheduler) == [("dating", "", 0.25)]
    assert await put(scheduler) == before
    assert await told(scheduler) == []


@pytest.mark.parametrize("share", [-0.1, 0.0005, 1.001, 10.0, math.nan])
async def test_a_share_out_of_bounds_is_refused(scheduler: Scheduler, share: float) -> None:
    refusal = await refused(put(scheduler, exploration=share))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "exploration")
    assert (await get(scheduler)).exploration == 0


async def test_policies_are_the_tenants_own(scheduler: Scheduler) -> None:
    for call in (
        get(scheduler, metadata=OTHER),
        put(scheduler, metadata=OTHER, exploration=0.5),
        get(scheduler, "nowhere"),
    ):
        assert (await refused(call)).reason == "DOMAIN_NOT_FOUND"
    assert (await refused(put(scheduler, ""))).metadata["field"] == "domain"
