"""What a service says of its rules, and what serving asks the scheduler about what it serves."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
import pytest
from trine.chassis.v1 import invariant_service_pb2, invariant_service_pb2_grpc
from trine.scheduler.v1 import promotion_service_pb2, promotion_service_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.invariants import (
    SERVICE,
    Invariants,
    Rule,
    UncheckableError,
    add_invariants,
)
from services.scheduler.rpc.errors import ERRORS
from services.serving.clients import SchedulerGate
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.ports import HeadName
from services.serving.invariants import serving_rules
from tests.support.scheduler import Scheduler, open_service
from tests.support.server import ACME, MESH, free_address, refused, running
from tests.support.swaps import DOMAIN_1, HEAD_1, KEY, World

CheckedRule = invariant_service_pb2.CheckedRule
REQUEST = invariant_service_pb2.VerifyInvariantsRequest()


async def holds() -> Sequence[str]:
    return []


async def breaks() -> Sequence[str]:
    return ["this", "that"]


async def is_away() -> Sequence[str]:
    raise UncheckableError("it is away")


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


async def test_a_service_says_what_became_of_each_rule_to_the_mesh_alone() -> None:
    finds = (("I9", holds), ("I4", breaks), ("I14", is_away))
    invariants = Invariants([Rule(number, f"{number} holds.", find) for number, find in finds])
    async with running(ERRORS, lambda server: add_invariants(server, invariants), [SERVICE]) as at:
        stub = invariant_service_pb2_grpc.InvariantServiceStub(at)
        answer = await stub.VerifyInvariants(REQUEST, metadata=MESH)
        refusal = await refused(stub.VerifyInvariants(REQUEST, metadata=ACME))
    assert list(answer.rules) == [
        CheckedRule(
            invariant="I4",
            rule="I4 holds.",
            result=CheckedRule.RESULT_VIOLATED,
            offenders=["this", "that"],
        ),
        CheckedRule(invariant="I9", rule="I9 holds.", result=CheckedRule.RESULT_HELD),
        CheckedRule(
            invariant="I14",
            rule="I14 holds.",
            result=CheckedRule.RESULT_UNCHECKED,
            reason="it is away",
        ),
    ]
    assert refusal.reason == "INTERNAL_RPC"


async def test_heads_that_never_passed_the_gate_are_told_apart(scheduler: Scheduler) -> None:
    await scheduler.trained(better=True)
    await scheduler.trained(better=False)
    passed, failed = sorted(head.head for head in await scheduler.heads())
    gate = SchedulerGate(scheduler.channel)
    asked = [("acme", passed), ("acme", failed), ("other", passed), ("acme", "made-up")]
    stub = promotion_service_pb2_grpc.PromotionServiceStub(scheduler.channel)
    request = promotion_service_pb2.FindUnearnedHeadsRequest(
        heads=[promotion_service_pb2.HeadKey(tenant=tenant, head=head) for tenant, head in asked]
    )
    answer = await stub.FindUnearnedHeads(request, metadata=MESH)
    assert [(key.tenant, key.head) for key in answer.unearned_heads] == asked[1:]
    assert (await refused(stub.FindUnearnedHeads(request, metadata=ACME))).reason == "INTERNAL_RPC"
    with pytest.raises(grpc.aio.AioRpcError):  # it does not say who it is
        await gate.unearned([HeadName("acme", passed)])


async def test_too_many_heads_at_once_are_refused(scheduler: Scheduler) -> None:
    stub = promotion_service_pb2_grpc.PromotionServiceStub(scheduler.channel)
    heads = [promotion_service_pb2.HeadKey(tenant="acme", head=str(n)) for n in range(1_001)]
    request = promotion_service_pb2.FindUnearnedHeadsRequest(heads=heads)
    refusal = await refused(stub.FindUnearnedHeads(request, metadata=MESH))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "heads")


class Gate:
    """Knows which heads have passed."""

    def __init__(self, *passed: str) -> None:
        self._passed = passed

    async def unearned(self, heads: Sequence[HeadName]) -> Sequence[HeadName]:
        return [name for name in heads if name.head not in self._passed]


async def offenders(world: World, gate: Gate) -> dict[str, Sequence[str]]:
    """What breaks which invariant."""
    findings = await Invariants(serving_rules(world.registry, gate)).verify()
    return {f.rule.invariant: list(f.offenders) for f in findings if f.offenders}


@pytest.mark.parametrize("desired", [[], [HEAD_1], [DOMAIN_1]])
async def test_what_the_swapper_puts_in_use_is_whole_and_named_if_it_never_passed(
    desired: list[object],
) -> None:
    world = World()
    world.desired = desired  # type: ignore[assignment]  # heads
    await world.swapper.sync()
    assert await offenders(world, Gate(HEAD_1.head, DOMAIN_1.head)) == {}
    named = [f"{head.tenant} {head.head}" for head in world.desired]
    assert (await offenders(world, Gate())).get("I9", []) == named


MIXES: dict[str, Callable[[ServedDomain, ServedDomain], ServedDomain]] = {
    "another head's scorers": lambda served, other: dataclasses.replace(
        served, head=dataclasses.replace(served.head, scorers=other.head.scorers)
    ),
    "another head's bundle": lambda served, other: dataclasses.replace(
        served, head=dataclasses.replace(served.head, bundle=other.head.bundle)
    ),
    "no bundle": lambda served, _other: dataclasses.replace(
        served, head=dataclasses.replace(served.head, bundle=None)
    ),
    "another layout's columns": lambda served, _other: dataclasses.replace(
        served, head=dataclasses.replace(served.head, columns=served.head.columns[:0])
    ),
}


@pytest.mark.parametrize("mix", MIXES)
async def test_half_a_swap_is_named(mix: str) -> None:
    world, other = World(), World()
    world.desired, other.desired = [HEAD_1], [DOMAIN_1]
    await world.swapper.sync()
    await other.swapper.sync()
    mixed = MIXES[mix](world.registry.domains[KEY], other.registry.domains[KEY])
    world.registry.put(KEY, mixed)
    found = await offenders(world, Gate(HEAD_1.head, DOMAIN_1.head))
    assert found == {"I10": [f"{KEY[0]}/{KEY[1]} {HEAD_1.head}"]}


async def test_without_the_scheduler_nobody_can_say_what_has_passed() -> None:
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    async with open_channel(free_address(), "token") as nobody:
        rules = serving_rules(world.registry, SchedulerGate(nobody))
        found, whole = await Invariants(rules).verify()
    assert (found.unchecked, whole.unchecked) == ("the scheduler does not answer", "")
