"""Dry runs: what a run would meet, and that nothing starts."""

from collections.abc import AsyncIterator

import pytest
from trine.scheduler.v1 import head_service_pb2

from services.scheduler.core.verdict import RULES
from tests.support.scheduler import Scheduler, open_service
from tests.support.server import ACME, OTHER, refused


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


async def test_a_dry_run_tells_everything_and_starts_nothing(scheduler: Scheduler) -> None:
    answer = await scheduler.train(dry_run=True)
    assert (answer.domain, answer.status, answer.run_id) == ("dating", "planned", "")
    assert (answer.triplets_used, answer.estimated_completion_minutes) == (4_218, 1)
    plan = answer.plan
    assert (plan.would_start, list(plan.obstacles)) == (True, [])
    assert (plan.triplets_pending, plan.triplets_budget, plan.budget_reached) == (
        4_218,
        1_000,
        True,
    )
    assert (plan.incumbent, plan.incumbent_pinned) == ("general", False)
    assert tuple(plan.gate_rules) == RULES
    assert (plan.outcomes_count, plan.positives_count, plan.seekers_count) == (900, 300, 80)
    assert (await scheduler.runs()).runs == []
    assert scheduler.store.events == []
    assert not (await scheduler.train()).HasField("plan")


@pytest.mark.parametrize(
    ("domain", "force", "reasons"),
    [
        ("hiring", False, ["BUDGET_NOT_REACHED"]),
        ("hiring", True, []),
        ("empty", True, ["NO_TRIPLETS"]),
    ],
)
async def test_a_dry_run_names_what_the_run_would_be_refused_with(
    scheduler: Scheduler, domain: str, force: bool, reasons: list[str]
) -> None:
    plan = (await scheduler.train(domain, force=force, dry_run=True)).plan
    assert [obstacle.reason for obstacle in plan.obstacles] == reasons
    assert plan.would_start == (not reasons)
    if reasons:
        refusal = await refused(scheduler.train(domain, force=force))
        assert [(refusal.reason, refusal.message)] == [
            (o.reason, o.message) for o in plan.obstacles
        ]


@pytest.mark.parametrize(
    ("triplets", "positives", "used"),
    [(0, 99, 0), (0, 100, 100), (4, 100, 100), (5, 100, 5), (4, 99, 4)],
)
async def test_positive_outcomes_stand_in_where_there_are_hardly_any_triplets(
    scheduler: Scheduler, triplets: int, positives: int, used: int
) -> None:
    scheduler.triplets.counts["empty"] = triplets
    scheduler.triplets.positives["empty"] = positives
    answer = await scheduler.train("empty", force=True, dry_run=True)
    assert answer.triplets_used == used
    assert answer.plan.triplets_pending == used
    assert answer.plan.would_start == bool(used)


async def test_a_dry_run_names_the_run_that_is_active_and_the_head_to_beat(
    scheduler: Scheduler,
) -> None:
    await scheduler.trained()
    pin = head_service_pb2.PinHeadRequest(domain="dating")
    await scheduler.heads_stub().PinHead(pin, metadata=ACME)
    active = await scheduler.train(force=True)
    plan = (await scheduler.train(force=True, dry_run=True)).plan
    assert [obstacle.reason for obstacle in plan.obstacles] == ["RUN_ACTIVE"]
    assert active.run_id in plan.obstacles[0].message
    assert (plan.incumbent, plan.incumbent_pinned) == ("u_acme.dating.2026-05-17.001", True)


async def test_a_dry_run_leaves_its_request_id_to_the_run(scheduler: Scheduler) -> None:
    await scheduler.train(dry_run=True, request_id="r1")
    assert (await scheduler.train(request_id="r1")).status == "queued"


async def test_a_dry_run_of_nothing_is_refused_as_a_run_is(scheduler: Scheduler) -> None:
    assert (await refused(scheduler.train("", dry_run=True))).metadata["field"] == "domain"
    other = scheduler.train(metadata=OTHER, dry_run=True)
    assert (await refused(other)).reason == "DOMAIN_NOT_FOUND"
