"""Policies per domain: what is chosen, what is left to the mesh, and runs that follow them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import training_service_pb2 as pb
from trine.scheduler.v1 import training_service_pb2_grpc

from services.scheduler.core.tell_trained import tell_trained
from services.scheduler.core.train_domain import consider_training
from tests.support.scheduler import POLICY, Scheduler, open_service
from tests.support.server import ACME, OTHER, refused


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def stub(scheduler: Scheduler) -> Any:
    return training_service_pb2_grpc.TrainingServiceStub(scheduler.channel)


def get(scheduler: Scheduler, domain: str = "dating", metadata: Any = ACME) -> Any:
    request = pb.GetTrainingPolicyRequest(domain=domain)
    return stub(scheduler).GetTrainingPolicy(request, metadata=metadata)


def put(scheduler: Scheduler, domain: str = "dating", metadata: Any = ACME, **content: Any) -> Any:
    policy = pb.TrainingPolicy(domain=domain, **content)
    request = pb.PutTrainingPolicyRequest(policy=policy)
    return stub(scheduler).PutTrainingPolicy(request, metadata=metadata)


async def consider(scheduler: Scheduler) -> list[tuple[str, str]]:
    """What the scheduler does every second."""
    await tell_trained(scheduler.store, scheduler.triplets)
    queued = await consider_training(scheduler.store, scheduler.triplets, scheduler.clock, POLICY)
    return [(run.job.domain, str(run.job.trigger)) for run in queued]


async def test_a_domain_has_the_meshs_policy_until_it_is_given_one(scheduler: Scheduler) -> None:
    defaults = await get(scheduler)
    assert (defaults.domain, defaults.triplets_budget) == ("dating", 1_000)
    assert (defaults.cool_down_seconds, defaults.interval_seconds) == (3_600, 0)
    changed = await put(scheduler, interval_seconds=86_400, triplets_budget=7)
    assert (changed.triplets_budget, changed.cool_down_seconds) == (7, 3_600)
    assert await get(scheduler) == changed
    assert (await get(scheduler, "hiring")).interval_seconds == 0
    assert await put(scheduler) == defaults


async def test_the_domains_budget_decides_on_demand_too(scheduler: Scheduler) -> None:
    await put(scheduler, "hiring", triplets_budget=10)
    await put(scheduler, "dating", triplets_budget=4_219)
    assert (await scheduler.train("hiring")).status == "queued"
    refusal = await refused(scheduler.train("dating"))
    assert (refusal.reason, refusal.metadata["triplets_budget"]) == ("BUDGET_NOT_REACHED", "4219")
    plan = (await scheduler.train("dating", dry_run=True)).plan
    assert (plan.triplets_budget, plan.budget_reached) == (4_219, False)


async def test_runs_start_by_themselves_as_each_domains_policy_says(scheduler: Scheduler) -> None:
    await put(scheduler, "dating", triplets_budget=10_000)
    assert await consider(scheduler) == []
    await put(scheduler, "hiring", interval_seconds=86_400)
    assert await consider(scheduler) == [("hiring", "scheduled")]
    await scheduler.complete(await scheduler.lease())
    scheduler.clock.advance(86_400)
    assert await consider(scheduler) == []  # nothing is pending
    scheduler.triplets.counts["hiring"] += 1
    assert await consider(scheduler) == [("hiring", "scheduled")]
    runs = (await scheduler.runs(domain="hiring")).runs
    assert [run.trigger for run in runs] == ["scheduled", "scheduled"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("triplets_budget", 0), ("cool_down_seconds", -1), ("interval_seconds", 31_536_001)],
)
async def test_a_policy_out_of_bounds_is_refused(
    scheduler: Scheduler, field: str, value: int
) -> None:
    before = await get(scheduler)
    wrong: dict[str, Any] = {field: value}
    refusal = await refused(put(scheduler, **wrong))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", field)
    assert await get(scheduler) == before


async def test_policies_are_the_tenants_own(scheduler: Scheduler) -> None:
    for call in (
        get(scheduler, metadata=OTHER),
        put(scheduler, metadata=OTHER, triplets_budget=1),
        get(scheduler, "nowhere"),
    ):
        assert (await refused(call)).reason == "DOMAIN_NOT_FOUND"
    assert (await refused(put(scheduler, ""))).metadata["field"] == "domain"
