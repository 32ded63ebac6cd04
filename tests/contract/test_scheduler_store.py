"""What every scheduler's store does with jobs and runs, in dictionaries and in PostgreSQL."""

import asyncio
import dataclasses
import datetime

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.errors import RunActiveError
from services.scheduler.core.estimate import PastRun
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.run import ACTIVE, MOVES, Failure, Run, State, run_id_of
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.runs import (
    DOMAIN,
    LONG_SECONDS,
    TENANT,
    SchedulerSetting,
    beat,
    bring_to,
    head_for,
    heartbeat_of,
    job_of,
    lease,
    move,
    point_of,
    queue,
    run_of,
    verdict_of,
)

ENDED = sorted(set(State) - ACTIVE)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


def id_of(run: Run, number: int) -> str:
    return run_id_of(run.create_time.date(), number)


async def test_a_queued_run_is_read_as_it_was_returned(store: SchedulerStore) -> None:
    run = await queue(store)
    assert (run.job, run.state, run.attempt, run.token) == (job_of(), State.QUEUED, 0, 0)
    assert run.create_time.utcoffset() == datetime.timedelta()
    assert await store.read_run(TENANT, run.run_id) == run
    assert await store.read_run("globex", run.run_id) is None
    assert await store.read_run(TENANT, "tr_2020_01_01_001") is None


async def test_of_twenty_racing_runs_of_a_domain_one_is_queued(store: SchedulerStore) -> None:
    results = await asyncio.gather(*(queue(store) for _ in range(20)), return_exceptions=True)
    queued = [result for result in results if isinstance(result, Run)]
    refused = [result for result in results if isinstance(result, RunActiveError)]
    assert (len(queued), len(refused)) == (1, 19)
    told = {"domain": DOMAIN, "run_id": queued[0].run_id, "status": "queued"}
    assert all(error.metadata == told for error in refused)
    assert await store.list_runs(TENANT, "", "", 100) == queued


@pytest.mark.parametrize("state", sorted(ACTIVE))
async def test_an_active_run_keeps_others_of_its_domain_out(
    store: SchedulerStore, state: State
) -> None:
    run = await bring_to(store, await queue(store), state)
    assert await store.active_run(TENANT, DOMAIN) == run
    with pytest.raises(RunActiveError) as caught:
        await queue(store)
    assert caught.value.metadata == {"domain": DOMAIN, "run_id": run.run_id, "status": state}
    assert (await queue(store, tenant="globex")).state is State.QUEUED
    assert (await queue(store, "hiring")).state is State.QUEUED


@pytest.mark.parametrize("state", ENDED)
async def test_an_ended_run_makes_room_for_the_next(store: SchedulerStore, state: State) -> None:
    ended = await bring_to(store, await queue(store), state)
    assert await store.active_run(TENANT, DOMAIN) is None
    assert (await queue(store)).run_id == id_of(ended, 2)


@pytest.mark.parametrize("state", sorted(State))
async def test_only_legal_moves_are_made(store: SchedulerStore, state: State) -> None:
    run = await bring_to(store, await queue(store), state)
    for target in sorted(set(State) - MOVES[state]):
        with pytest.raises(AssertionError):
            await move(store, run, target)
    assert await run_of(store, run) == run
    legal = sorted(MOVES[state])
    if legal:
        assert (await move(store, run, legal[0])).state is legal[0]


async def test_every_move_is_read_as_it_was_returned(store: SchedulerStore) -> None:
    run = await queue(store)
    seen = [run]
    async with store.begin(EVERYONE) as unit:
        seen.append(await unit.start_lease(run, "trainer-1", LONG_SECONDS, "u_acme.dating.x"))
    assert await run_of(store, run) == seen[-1]
    for state in (State.RUNNING, State.EVALUATING, State.EXPORTING, State.QUEUED):
        seen.append(await move(store, run, state))
        assert await run_of(store, run) == seen[-1]
    phases = ["queued", "starting", "running", "evaluating", "exporting", "queued"]
    assert [step.state for step in seen] == phases
    assert {step.end_time for step in seen} == {None}


async def test_a_failed_run_keeps_its_reason_and_its_end(store: SchedulerStore) -> None:
    run = await bring_to(store, await queue(store), State.RUNNING)
    failure = Failure("TRAINER_ERROR", 'It said "naïve"\n.', retriable=True)
    async with store.begin(EVERYONE) as unit:
        failed = await unit.move_run(run, State.FAILED, failure=failure)
    assert failed.failure == failure
    assert failed.end_time is not None
    assert failed.start_time is not None
    assert failed.end_time >= failed.start_time >= failed.create_time
    assert await run_of(store, run) == failed


async def test_a_successful_run_keeps_its_verdict_and_its_head(store: SchedulerStore) -> None:
    run = await bring_to(store, await queue(store), State.EXPORTING)
    verdict = verdict_of(promoted=False)
    async with store.begin(EVERYONE) as unit:
        ended = await unit.move_run(run, State.SUCCEEDED, verdict=verdict, head="u_acme.dating.x")
    assert (ended.verdict, ended.head) == (verdict, "u_acme.dating.x")
    assert await run_of(store, run) == ended


async def test_pages_of_runs_hold_each_run_once_newest_first(setting: SchedulerSetting) -> None:
    store = setting.store
    queued = []
    for index in range(7):
        queued.append(await queue(store, f"domain-{index}"))
        await setting.wait(0.001)
    await queue(store, tenant="globex")
    found: list[Run] = []
    while page := await store.list_runs(TENANT, "", found[-1].run_id if found else "", 3):
        assert len(page) <= 3
        found += page
    assert found == queued[::-1]
    assert await store.list_runs(TENANT, "", "tr_2020_01_01_001", 3) == []


async def test_runs_of_one_domain_are_listed_alone(store: SchedulerStore) -> None:
    first = await bring_to(store, await queue(store), State.CANCELLED)
    await queue(store, "hiring")
    second = await queue(store)
    assert await store.list_runs(TENANT, DOMAIN, "", 10) == [second, first]
    assert await store.list_runs(TENANT, DOMAIN, second.run_id, 10) == [first]
    assert await store.list_runs(TENANT, "founders", "", 10) == []


async def test_a_page_of_one_domain_may_start_at_a_run_of_another(store: SchedulerStore) -> None:
    older = await bring_to(store, await queue(store), State.CANCELLED)
    between = await queue(store, "hiring")
    await queue(store)
    assert await store.list_runs(TENANT, DOMAIN, between.run_id, 10) == [older]


async def test_the_newest_run_says_when_a_domain_was_last_trained(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    assert await store.last_run_time(TENANT, DOMAIN) is None
    await bring_to(store, await queue(store), State.FAILED)
    await setting.wait(0.001)
    newest = await queue(store)
    await queue(store, "hiring")
    assert await store.last_run_time(TENANT, DOMAIN) == newest.create_time
    assert await store.last_run_time("globex", DOMAIN) is None


async def test_only_queued_runs_count_as_waiting(store: SchedulerStore) -> None:
    assert await store.queued_count() == 0
    for state in State:
        await bring_to(store, await queue(store, str(state)), state)
    assert await store.queued_count() == 1


async def test_the_past_holds_what_newest_successes_of_a_first_attempt_took(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    for triplets_count in (100, 200, 300):
        async with store.begin(EVERYONE) as unit:
            run = await unit.add_run(job_of(triplets_count=triplets_count))
        await bring_to(store, run, State.RUNNING)
        await setting.wait(0.02)
        await move(store, run, State.SUCCEEDED)
    await bring_to(store, await queue(store, "failed"), State.FAILED)
    second_attempt = await bring_to(store, await queue(store, "again"), State.STARTING)
    await bring_to(store, await move(store, second_attempt, State.QUEUED), State.SUCCEEDED)
    past = await store.past_runs(10)
    assert [run.triplets_count for run in past] == [300, 200, 100]
    assert all(0.02 <= run.seconds < 5 for run in past)
    assert [type(run) for run in past] == [PastRun] * 3
    assert await store.past_runs(2) == past[:2]


async def test_successes_are_told_of_until_they_are_marked_oldest_first(
    store: SchedulerStore,
) -> None:
    runs = [await bring_to(store, await queue(store), State.SUCCEEDED) for _ in range(3)]
    await bring_to(store, await queue(store), State.FAILED)
    assert await store.untold_runs(10) == runs
    assert await store.untold_runs(2) == runs[:2]
    for _ in range(2):
        await store.mark_told(runs[0])
    assert await store.untold_runs(10) == runs[1:]
    assert await run_of(store, runs[0]) == runs[0]


async def test_a_mark_made_while_a_unit_is_open_stays(store: SchedulerStore) -> None:
    run = await bring_to(store, await queue(store), State.SUCCEEDED)
    async with store.begin(EVERYONE) as unit:
        await unit.add_run(job_of("hiring"))
        await store.mark_told(run)
    assert await store.untold_runs(10) == []


async def test_a_unit_that_fails_leaves_nothing(setting: SchedulerSetting) -> None:
    store = setting.store
    run = await queue(store)

    async def act(unit: SchedulerUnit) -> None:
        added = await unit.add_run(job_of("hiring"))
        await unit.emit_run("queued", added)
        leased = await unit.start_lease(run, "trainer-1", LONG_SECONDS, "")
        await unit.extend_lease(leased, LONG_SECONDS, heartbeat_of(steps=50))
        ended = await unit.move_run(leased, State.SUCCEEDED)
        head = head_for(ended)
        await unit.add_head(head)
        await unit.lock_pointer(TENANT, DOMAIN)
        await unit.move_pointer(TENANT, DOMAIN, head.head, "", "why not")
        await unit.emit_head("promoted", TENANT, DOMAIN, head, "")

    with pytest.raises(DeliberateError):
        await act_and_fail(store.begin(EVERYONE), act)
    assert await store.list_runs(TENANT, "", "", 10) == [run]
    assert await store.list_heads(TENANT, DOMAIN, "", 10) == []
    assert await store.list_promoted(("", ""), 10) == []
    assert await store.untold_runs(10) == []
    assert await setting.events() == []
    async with store.begin(EVERYONE) as unit:
        assert not await unit.was_in_use(TENANT, DOMAIN, head_for(run).head)
    assert (await queue(store, "hiring")).run_id == id_of(run, 2)


async def test_the_world_hears_of_units_that_committed_in_their_order(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    run = await queue(store)
    async with store.begin(EVERYONE) as unit:
        await unit.emit_run("queued", run)
        assert await setting.events() == []
    async with store.begin(EVERYONE) as unit:
        await unit.emit_run("started", run)
        await unit.emit_run("failed", run)
        await unit.emit_head("rolled_back", TENANT, DOMAIN, None, "u_acme.dating.x")
    told = ["run.queued", "run.started", "run.failed", "head.rolled_back"]
    assert await setting.events() == told


async def test_loss_curves_are_left_out_of_lists(store: SchedulerStore) -> None:
    await queue(store)
    run = await lease(store)
    await beat(store, run, heartbeat_of(point_of(10)))
    (listed,) = await store.list_runs(TENANT, "", "", 10)
    assert listed.loss_curve == ()
    assert (await run_of(store, run)).loss_curve == (point_of(10),)
    assert dataclasses.replace(await run_of(store, run), loss_curve=()) == listed
