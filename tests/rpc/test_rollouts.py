"""Rollouts over gRPC: policies, what is read, steering, and what serving asks and tells."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import (
    head_service_pb2,
    promotion_service_pb2,
    promotion_service_pb2_grpc,
    rollout_pb2,
    rollout_service_pb2_grpc,
)
from trine.scheduler.v1 import rollout_service_pb2 as pb

from services.scheduler.core.advance_rollouts import advance_rollouts
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.metrics import ARM_MATCHES, show_rollouts
from tests.support.scheduler import Scheduler, open_service
from tests.support.server import ACME, MESH, OTHER, refused

Policy = rollout_pb2.RolloutPolicy


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def stub(scheduler: Scheduler) -> Any:
    return rollout_service_pb2_grpc.RolloutServiceStub(scheduler.channel)


def get(scheduler: Scheduler, domain: str = "dating", metadata: Any = ACME) -> Any:
    request = pb.GetRolloutPolicyRequest(domain=domain)
    return stub(scheduler).GetRolloutPolicy(request, metadata=metadata)


def put(scheduler: Scheduler, domain: str = "dating", metadata: Any = ACME, **steps: Any) -> Any:
    request = pb.PutRolloutPolicyRequest(policy=Policy(domain=domain, **steps))
    return stub(scheduler).PutRolloutPolicy(request, metadata=metadata)


def read(scheduler: Scheduler, rollout_id: str, metadata: Any = ACME) -> Any:
    request = pb.GetRolloutRequest(rollout_id=rollout_id)
    return stub(scheduler).GetRollout(request, metadata=metadata)


def report(scheduler: Scheduler, metadata: Any = MESH, **content: Any) -> Any:
    request = pb.ReportChallengerRequest(**({"tenant": "acme", "server": "s1"} | content))
    return stub(scheduler).ReportChallenger(request, metadata=metadata)


async def start(scheduler: Scheduler, **steps: Any) -> str:
    """Trains a head that passes the gate; returns its rollout."""
    await put(scheduler, **steps)
    run = await scheduler.run(await scheduler.trained())
    assert (run.verdict.result, run.verdict.passed) == ("rollout", True)
    rollout_id: str = run.verdict.rollout_id
    return rollout_id


async def advance(scheduler: Scheduler) -> None:
    """What the scheduler does every second."""
    show_rollouts(await advance_rollouts(scheduler.store, scheduler.triplets, scheduler.clock))


async def test_a_policy_is_replaced_whole_and_told_with_its_defaults(scheduler: Scheduler) -> None:
    assert await get(scheduler) == Policy(domain="dating")
    told = await put(scheduler, shadow=Policy.Shadow(share=0.5), canary=Policy.Canary())
    assert (told.shadow.share, told.shadow.matches_min) == (0.5, 1_000)
    assert (told.canary.share, told.canary.loss_max, told.canary.outcomes_min) == (0.1, 0.02, 200)
    assert await get(scheduler) == told
    assert await get(scheduler, "hiring") == Policy(domain="hiring")
    told = await put(scheduler, shadow=Policy.Shadow())
    assert (told.shadow.share, told.HasField("canary")) == (0.1, False)
    assert await put(scheduler) == Policy(domain="dating")


@pytest.mark.parametrize(
    ("field", "steps"),
    [
        ("shadow.share", {"shadow": Policy.Shadow(share=0)}),
        ("canary.share", {"canary": Policy.Canary(share=1)}),
        ("canary.seconds_max", {"canary": Policy.Canary(seconds_max=0)}),
    ],
)
async def test_a_policy_out_of_bounds_is_refused(
    scheduler: Scheduler, field: str, steps: dict[str, Any]
) -> None:
    refusal = await refused(put(scheduler, **steps))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", field)
    assert await get(scheduler) == Policy(domain="dating")


async def test_policies_and_rollouts_are_the_tenants_own(scheduler: Scheduler) -> None:
    rollout_id = await start(scheduler, canary=Policy.Canary())
    for call in (get(scheduler, metadata=OTHER), put(scheduler, metadata=OTHER)):
        assert (await refused(call)).reason == "DOMAIN_NOT_FOUND"
    assert (await refused(get(scheduler, ""))).metadata["field"] == "domain"
    for name, metadata in ((rollout_id, OTHER), ("ro_2020_01_01_001", ACME)):
        refusal = await refused(read(scheduler, name, metadata))
        assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "ROLLOUT_NOT_FOUND")
    listed = await stub(scheduler).ListRollouts(pb.ListRolloutsRequest(), metadata=OTHER)
    assert not listed.rollouts


async def test_a_rollout_is_read_with_the_numbers_of_every_step(scheduler: Scheduler) -> None:
    rollout_id = await start(
        scheduler, shadow=Policy.Shadow(matches_min=4), canary=Policy.Canary(outcomes_min=10)
    )
    seen = await read(scheduler, rollout_id)
    assert (seen.status, seen.incumbent, seen.policy.shadow.matches_min) == ("shadow", "general", 4)
    assert not seen.HasField("challenger_arm")
    assert not seen.shadow.HasField("rank_correlation")
    await report(
        scheduler,
        rollout_id=rollout_id,
        matches_count=4,
        overlap_sum=3.0,
        rank_correlation_sum=1.0,
        correlated_count=2,
        challenger_seconds_sum=0.4,
        incumbent_seconds_sum=0.2,
        dropped_count=7,
    )
    await advance(scheduler)
    seen = await read(scheduler, rollout_id)
    assert (seen.status, seen.shadow.overlap, seen.shadow.rank_correlation) == ("canary", 0.75, 0.5)
    assert (seen.shadow.challenger_seconds, seen.shadow.dropped_count) == (0.1, 7)
    assert seen.HasField("challenger_arm")
    scheduler.triplets.arms = (
        ArmCounts(
            matches_count=90,
            seekers_count=40,
            outcomes_count=40,
            positives_count=1,
            outcomes_squared_sum=40,
            products_sum=1,
            positives_squared_sum=1,
        ),
        ArmCounts(
            matches_count=99,
            seekers_count=40,
            outcomes_count=40,
            positives_count=39,
            outcomes_squared_sum=40,
            products_sum=39,
            positives_squared_sum=39,
        ),
    )
    await advance(scheduler)
    seen = await read(scheduler, rollout_id)
    assert (seen.status, seen.challenger_arm.matches_count) == ("returned", 90)
    assert (seen.gain.mid, seen.incumbent_arm.positives_count) == (pytest.approx(-0.95), 39)
    assert seen.reason.startswith("It has regressed")
    assert seen.HasField("end_time")


async def test_operators_see_the_arms_of_what_is_under_way(scheduler: Scheduler) -> None:
    rollout_id = await start(scheduler, canary=Policy.Canary())
    counts = ArmCounts(matches_count=7, seekers_count=1, outcomes_count=1, outcomes_squared_sum=1)
    scheduler.triplets.arms = (counts, ArmCounts())
    await advance(scheduler)
    head = (await read(scheduler, rollout_id)).challenger
    labels = ("acme", "dating", head, "challenger")
    assert ARM_MATCHES.labels(*labels)._value.get() == 7
    await stub(scheduler).AbortRollout(pb.AbortRolloutRequest(rollout_id=rollout_id), metadata=ACME)
    await advance(scheduler)
    assert not ARM_MATCHES._metrics


async def test_people_abort_and_promote(scheduler: Scheduler) -> None:
    first = await start(scheduler, canary=Policy.Canary())
    second = await start(scheduler, canary=Policy.Canary())
    steer = stub(scheduler)
    refusal = await refused(
        steer.PromoteRollout(pb.PromoteRolloutRequest(rollout_id=second), metadata=ACME)
    )
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "ROLLOUT_WAITING")
    ended = await steer.AbortRollout(pb.AbortRolloutRequest(rollout_id=first), metadata=ACME)
    assert (ended.status, ended.reason) == ("aborted", "Aborted by hand.")
    refusal = await refused(
        steer.PromoteRollout(pb.PromoteRolloutRequest(rollout_id=first), metadata=ACME)
    )
    assert (refusal.reason, refusal.metadata["status"]) == ("ROLLOUT_ENDED", "aborted")
    assert (await read(scheduler, second)).status == "canary"
    ended = await steer.PromoteRollout(pb.PromoteRolloutRequest(rollout_id=second), metadata=ACME)
    assert ended.status == "promoted"
    assert await scheduler.promoted() == [ended.challenger]
    page = await steer.ListRollouts(pb.ListRolloutsRequest(page_size=1), metadata=ACME)
    assert [rollout.rollout_id for rollout in page.rollouts] == [second]
    request = pb.ListRolloutsRequest(domain="dating", page_token=page.next_page_token)
    page = await steer.ListRollouts(request, metadata=ACME)
    assert [rollout.rollout_id for rollout in page.rollouts] == [first]


async def test_serving_is_told_of_the_challenger_and_its_share(scheduler: Scheduler) -> None:
    rollout_id = await start(scheduler, canary=Policy.Canary(share=0.25))
    asked = promotion_service_pb2_grpc.PromotionServiceStub(scheduler.channel)
    request = promotion_service_pb2.ListPromotedHeadsRequest()
    (told,) = (await asked.ListPromotedHeads(request, metadata=MESH)).heads
    challenger = told.challenger
    assert (told.head, challenger.rollout_id) == ("", rollout_id)
    assert (challenger.step, challenger.share) == ("canary", 0.25)
    assert challenger.head == (await read(scheduler, rollout_id)).challenger
    assert len(challenger.manifest_digest) == 64


async def test_reports_are_the_meshs_alone(scheduler: Scheduler) -> None:
    refusal = await refused(report(scheduler, ACME, rollout_id="ro_2020_01_01_001"))
    assert refusal.reason == "INTERNAL_RPC"
    refusal = await refused(report(scheduler, server=""))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "server")


async def test_the_verdict_on_the_head_names_its_rollout(scheduler: Scheduler) -> None:
    rollout_id = await start(scheduler, shadow=Policy.Shadow())
    head = (await read(scheduler, rollout_id)).challenger
    request = head_service_pb2.GetHeadVerdictRequest(head=head)
    report = await scheduler.heads_stub().GetHeadVerdict(request, metadata=ACME)
    assert report.summary.startswith(f"In {rollout_id}: The head passed every rule of the gate;")
    assert report.verdict.rollout_id == rollout_id
