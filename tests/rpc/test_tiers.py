"""Domain heads as operators make them and as tenants meet them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import head_service_pb2 as pb
from trine.scheduler.v1 import model_catalog_service_pb2 as catalog_pb
from trine.scheduler.v1 import (
    model_catalog_service_pb2_grpc,
    shared_domain_service_pb2,
    shared_domain_service_pb2_grpc,
)

from services.scheduler.core.head import SHARED
from services.scheduler.core.tell_trained import tell_trained
from services.scheduler.core.train_domain import consider_training
from tests.support.scheduler import POLICY, Scheduler, open_service
from tests.support.server import ACME, MESH, OTHER, refused

HEAD = "dating.2026-05-17.001"


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    """Tenants share the domain dating."""
    async with open_service() as opened:
        opened.triplets.shared["dating"] = 9_000
        yield opened


def operator(scheduler: Scheduler) -> Any:
    """The operator's service."""
    return shared_domain_service_pb2_grpc.SharedDomainServiceStub(scheduler.channel)


def train(scheduler: Scheduler, domain: str = "dating", metadata: Any = MESH) -> Any:
    """Asks for a domain head."""
    request = shared_domain_service_pb2.TrainSharedDomainRequest(domain=domain, force=True)
    return operator(scheduler).TrainSharedDomain(request, metadata=metadata)


async def make_domain_head(scheduler: Scheduler) -> str:
    """Trains a domain head that comes into use, and returns its run."""
    run_id: str = (await train(scheduler)).run_id
    leased = await scheduler.lease()
    assert leased is not None
    assert (leased.tenant, leased.tier, leased.prior) == (SHARED, "domain", "")
    await scheduler.complete(leased)
    return run_id


async def heads(scheduler: Scheduler, size: int = 0) -> list[Any]:
    """The tenant's list, page by page."""
    found: list[Any] = []
    request = pb.ListHeadsRequest(domain="dating", page_size=size)
    while True:
        page = await scheduler.heads_stub().ListHeads(request, metadata=ACME)
        found += page.heads
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def test_an_operator_trains_reads_and_takes_back(scheduler: Scheduler) -> None:
    run_id = await make_domain_head(scheduler)
    asking = shared_domain_service_pb2.GetSharedRunRequest(run_id=run_id)
    run = (await operator(scheduler).GetSharedRun(asking, metadata=MESH)).run
    assert (run.status, run.head, run.triplets_used) == ("succeeded", HEAD, 9_000)
    assert run.verdict.result == "promoted"
    assert await scheduler.promoted() == [HEAD]
    back = shared_domain_service_pb2.RollBackSharedHeadRequest(domain="dating")
    answer = await operator(scheduler).RollBackSharedHead(back, metadata=MESH)
    assert (answer.head, answer.rolled_back_head) == ("general", HEAD)
    assert await scheduler.promoted() == []


async def test_no_tenant_reaches_what_is_shared(scheduler: Scheduler) -> None:
    run_id = await make_domain_head(scheduler)
    assert (await refused(train(scheduler, metadata=ACME))).reason == "INTERNAL_RPC"
    assert (await refused(scheduler.run(run_id))).reason == "RUN_NOT_FOUND"
    assert list((await scheduler.runs()).runs) == []
    stub = scheduler.heads_stub()
    for call in (
        stub.GetHeadVerdict(pb.GetHeadVerdictRequest(head=HEAD), metadata=ACME),
        stub.GetHeadLineage(pb.GetHeadLineageRequest(head=HEAD), metadata=ACME),
        stub.CompareHeads(pb.CompareHeadsRequest(head=HEAD, other=HEAD), metadata=ACME),
        stub.GetHead(pb.GetHeadRequest(head=HEAD), metadata=OTHER),
    ):
        assert (await refused(call)).reason == "HEAD_NOT_FOUND"


async def test_a_tenant_is_told_of_the_domain_head_without_its_numbers(
    scheduler: Scheduler,
) -> None:
    await make_domain_head(scheduler)
    (listed,) = await heads(scheduler)
    assert (listed.head, listed.tier, listed.parent) == (HEAD, "domain", "general")
    assert listed.promoted
    assert not listed.HasField("verdict")
    assert (listed.run_id, listed.manifest_digest) == ("", "")
    got = pb.GetHeadRequest(head=HEAD)
    assert await scheduler.heads_stub().GetHead(got, metadata=ACME) == listed
    await scheduler.trained()
    for size in (0, 1, 2):
        own, above = await heads(scheduler, size)
        assert (own.tier, own.promoted, own.parent) == ("tenant", True, HEAD)
        assert (above.head, above.promoted) == (HEAD, False)


async def test_a_lineage_names_the_domain_head_and_nothing_that_others_did(
    scheduler: Scheduler,
) -> None:
    await make_domain_head(scheduler)
    await scheduler.trained()
    request = pb.GetHeadLineageRequest(head="u_acme.dating.2026-05-17.001")
    found = await scheduler.heads_stub().GetHeadLineage(request, metadata=ACME)
    assert [(a.head, a.tier) for a in found.ancestors] == [(HEAD, "domain"), ("general", "general")]
    above = found.ancestors[0]
    told = (above.run_id, above.snapshot_digest, above.triplets_used, above.result)
    assert told == ("", "", 0, "")
    assert above.HasField("create_time")


async def test_the_domain_head_is_a_model_of_who_has_the_domain(scheduler: Scheduler) -> None:
    models = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(scheduler.channel)

    async def find(name: str, tenant: str = "acme") -> tuple[str, str]:
        request = catalog_pb.GetModelRequest(tenant=tenant, model=name)
        found = (await models.GetModel(request, metadata=MESH)).model
        return found.head, found.owner

    async def listed() -> list[tuple[str, str]]:
        request = catalog_pb.ListModelsRequest(tenant="acme")
        found = (await models.ListModels(request, metadata=MESH)).models
        return [(model.model, model.owner) for model in found]

    await make_domain_head(scheduler)
    assert await find("trine-dating") == await find(HEAD) == (HEAD, SHARED)
    assert await listed() == [("trine-general", ""), ("trine-dating", SHARED)]
    for name in ("trine-dating", HEAD):
        assert (await refused(find(name, "other"))).reason == "MODEL_NOT_FOUND"
    await scheduler.trained()
    own = "u_acme.dating.2026-05-17.001"
    assert (await find("trine-dating"), await find(HEAD)) == ((own, "acme"), (HEAD, SHARED))
    assert await listed() == [("trine-general", ""), ("trine-dating", "acme")]


async def test_too_few_tenants_are_refused(scheduler: Scheduler) -> None:
    assert (await refused(train(scheduler, "hiring"))).reason == "TENANTS_TOO_FEW"
    refusal = await refused(train(scheduler, ""))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "domain")


async def test_shared_domains_train_by_themselves_once_enough_is_pending(
    scheduler: Scheduler,
) -> None:
    scheduler.triplets.counts = {}

    async def queued() -> list[tuple[str, str]]:
        arguments = (scheduler.store, scheduler.triplets, scheduler.clock, POLICY)
        found = await consider_training(*arguments)
        return [(run.job.tenant, run.job.domain) for run in found if run.job.tenant == SHARED]

    scheduler.triplets.shared["dating"] = POLICY.triplets_budget - 1
    assert await queued() == []
    scheduler.triplets.shared["dating"] = POLICY.triplets_budget
    assert await queued() == [(SHARED, "dating")]
    leased = await scheduler.lease()
    assert leased is not None
    await scheduler.complete(leased)
    await tell_trained(scheduler.store, scheduler.triplets)
    assert scheduler.triplets.trained == {"_shared/dating": POLICY.triplets_budget}
    scheduler.triplets.shared["dating"] = 2 * POLICY.triplets_budget
    assert await queued() == [], "it has not cooled down"
    scheduler.clock.advance(POLICY.cool_down.total_seconds() + 1)
    assert await queued() == [(SHARED, "dating")]
