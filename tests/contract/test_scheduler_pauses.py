"""Pausing, resuming and stopping runs, over every scheduler's store."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.errors import (
    LeaseLostError,
    RunActiveError,
    RunEndedError,
    RunNotFoundError,
    RunStateError,
    SchedulerError,
)
from services.scheduler.core.lease_run import (
    Directive,
    expire_leases,
    fail_run,
    heartbeat_run,
    release_run,
)
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.run import ACTIVE, Failure, Run, State
from services.scheduler.core.stop_run import stop_run
from tests.support.runs import (
    LONG_SECONDS,
    SHORT_SECONDS,
    TENANT,
    SchedulerSetting,
    beat,
    bring_to,
    complete,
    heartbeat_of,
    lease,
    move,
    queue,
    run_of,
)

Act = Callable[[SchedulerUnit, str, str], Awaitable[Run]]


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def steer(store: SchedulerStore, act: Act, run: Run) -> Run:
    """Does something to a run and checks that it is read as it was returned."""
    async with store.begin(EVERYONE) as unit:
        steered = await act(unit, TENANT, run.run_id)
    assert (await run_of(store, run)).state is steered.state
    return steered


async def release(store: SchedulerStore, run: Run) -> None:
    async with store.begin(EVERYONE) as unit:
        await release_run(unit, TENANT, run.run_id, run.token)


async def directive(store: SchedulerStore, run: Run) -> Directive:
    """What the holder of the run's lease hears."""
    async with store.begin(EVERYONE) as unit:
        key = (TENANT, run.run_id, run.token)
        return await heartbeat_run(
            unit, *key, seconds=LONG_SECONDS, heartbeat=heartbeat_of(checkpoint_digest="cd" * 32)
        )


async def running(store: SchedulerStore, seconds: float = LONG_SECONDS) -> Run:
    await queue(store)
    run = await lease(store, seconds)
    return await move(store, run, State.RUNNING)


async def test_a_run_pauses_goes_on_and_ends_in_one_attempt(setting: SchedulerSetting) -> None:
    store = setting.store
    run = await running(store)
    assert (await steer(store, pause_run, run)).state is State.PAUSING
    assert await directive(store, run) is Directive.PAUSE
    await release(store, run)
    paused = await run_of(store, run)
    assert (paused.state, paused.attempt, paused.end_time) == (State.PAUSED, 1, None)
    with pytest.raises(LeaseLostError):
        await complete(store, run)
    assert (await steer(store, resume_run, run)).state is State.QUEUED
    again = await lease(store)
    assert (again.run_id, again.attempt, again.checkpoint_digest) == (run.run_id, 1, "cd" * 32)
    assert again.token > run.token
    await complete(store, again)
    assert (await run_of(store, run)).state is State.SUCCEEDED
    kinds = ["run.started", "run.paused", "run.resumed", "run.completed", "head.promoted"]
    assert await setting.events() == kinds
    assert await store.past_runs(10) == []  # a pause is no training time


async def test_a_queued_run_pauses_at_once_and_starts_anew(setting: SchedulerSetting) -> None:
    store = setting.store
    run = await queue(store)
    assert (await steer(store, pause_run, run)).state is State.PAUSED
    assert await store.queued_count() == 0
    await steer(store, resume_run, run)
    assert (await lease(store)).attempt == 1
    assert await setting.events() == ["run.paused", "run.resumed", "run.started"]


async def test_a_paused_run_keeps_its_domain_and_has_no_lease_to_lose(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    run = await running(store, SHORT_SECONDS)
    await steer(store, pause_run, run)
    await release(store, run)
    await setting.wait(2 * SHORT_SECONDS)
    async with store.begin(EVERYONE) as unit:
        assert await expire_leases(unit) == []
    with pytest.raises(RunActiveError) as caught:
        await queue(store)
    assert caught.value.metadata["status"] == "paused"
    assert "Resume it or cancel it" in str(caught.value)
    assert (await steer(store, cancel_run, run)).state is State.CANCELLED
    await queue(store)


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "failing"])
async def test_a_run_whose_trainer_is_lost_while_pausing_is_paused(
    setting: SchedulerSetting, silent: bool
) -> None:
    store = setting.store
    run = await running(store, SHORT_SECONDS)
    await steer(store, pause_run, run)
    if silent:
        await setting.wait(2 * SHORT_SECONDS)
    async with store.begin(EVERYONE) as unit:
        if silent:
            await expire_leases(unit)
        else:
            failure = Failure("TRAINER_ERROR", "It broke.", retriable=True)
            await fail_run(unit, TENANT, run.run_id, run.token, failure)
    now = await run_of(store, run)
    assert (now.state, now.attempt) == (State.PAUSED, 1)
    assert (await setting.events())[-1] == "run.paused"


async def test_a_run_that_ends_before_its_trainer_hears_of_the_pause_has_ended(
    store: SchedulerStore,
) -> None:
    run = await running(store)
    await steer(store, pause_run, run)
    await complete(store, run)
    assert (await run_of(store, run)).state is State.SUCCEEDED


async def test_giving_back_what_was_cancelled_or_given_back_changes_nothing(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    run = await running(store)
    await steer(store, pause_run, run)
    for _ in range(2):
        await release(store, run)
    assert (await setting.events()).count("run.paused") == 1
    await steer(store, cancel_run, run)
    await release(store, run)
    assert (await run_of(store, run)).state is State.CANCELLED
    assert not await beat(store, run, heartbeat_of())


async def test_a_stopped_run_ends_with_its_head_and_its_verdict(setting: SchedulerSetting) -> None:
    store = setting.store
    run = await running(store)
    stopping = await steer(store, stop_run, run)
    assert (stopping.state, stopping.stop_requested) == (State.STOPPING, True)
    assert await directive(store, run) is Directive.STOP
    verdict = await complete(store, run)
    stopped = await run_of(store, run)
    assert (stopped.state, stopped.verdict) == (State.STOPPED, verdict)
    assert stopped.end_time is not None
    assert [head.head for head in await store.list_promoted(("", ""), 9)] == [stopped.head]
    assert await store.untold_runs(9) == [stopped]
    assert await store.past_runs(9) == []
    assert await setting.events() == ["run.started", "run.completed", "head.promoted"]
    assert (await steer(store, stop_run, run)).state is State.STOPPED
    await queue(store)


async def test_a_paused_run_goes_to_a_trainer_to_be_stopped(setting: SchedulerSetting) -> None:
    store = setting.store
    run = await running(store)
    await steer(store, pause_run, run)
    await release(store, run)
    for _ in range(2):
        asked = await steer(store, stop_run, run)
        assert (asked.state, asked.stop_requested) == (State.QUEUED, True)
    again = await lease(store)
    assert again.stop_requested
    assert await directive(store, again) is Directive.STOP
    assert (await run_of(store, run)).state is State.STOPPING
    await complete(store, again)
    assert (await run_of(store, run)).state is State.STOPPED
    assert (await setting.events())[1:3] == ["run.paused", "run.resumed"]


async def test_a_stop_outlives_the_trainer_that_heard_of_it(setting: SchedulerSetting) -> None:
    store = setting.store
    run = await running(store, SHORT_SECONDS)
    await steer(store, stop_run, run)
    await setting.wait(2 * SHORT_SECONDS)
    async with store.begin(EVERYONE) as unit:
        await expire_leases(unit)
    lost = await run_of(store, run)
    assert (lost.state, lost.attempt, lost.stop_requested) == (State.QUEUED, 2, True)
    assert await directive(store, await lease(store)) is Directive.STOP


REFUSED: dict[str, tuple[Act, set[State]]] = {
    "pause": (pause_run, {State.EVALUATING, State.EXPORTING, State.STOPPING}),
    "resume": (resume_run, {State.PAUSING}),
    # Runs that were brought to "queued" and "paused" without a trainer have learned nothing.
    "stop": (
        stop_run,
        {State.QUEUED, State.PAUSED, State.PAUSING, State.EVALUATING, State.EXPORTING},
    ),
}


@pytest.mark.parametrize("state", sorted(State))
@pytest.mark.parametrize("name", REFUSED)
async def test_what_a_runs_state_does_not_allow_is_refused_and_changes_nothing(
    store: SchedulerStore, name: str, state: State
) -> None:
    act, refused = REFUSED[name]
    run = await bring_to(store, await queue(store), state)
    kind: type[SchedulerError] | None = RunStateError if state in refused else None
    if state not in ACTIVE and (name, state) != ("stop", State.STOPPED):
        kind = RunEndedError
    if kind is None:
        steered = await steer(store, act, run)
        assert await steer(store, act, steered) == steered
        return
    with pytest.raises(kind) as caught:
        await steer(store, act, run)
    assert caught.value.metadata["status"] == state
    assert await run_of(store, run) == run


@pytest.mark.parametrize("name", REFUSED)
async def test_a_run_of_nobody_is_not_steered(store: SchedulerStore, name: str) -> None:
    act, _ = REFUSED[name]
    run = await queue(store, tenant="globex")
    with pytest.raises(RunNotFoundError):
        await steer(store, act, run)


async def test_of_a_pause_and_a_lease_at_once_the_trainer_hears_of_the_pause(
    store: SchedulerStore,
) -> None:
    run = await queue(store)

    async def take() -> Run | None:
        async with store.begin(EVERYONE) as unit:
            found = await unit.lock_queued_run()
            return found and await unit.start_lease(found, "trainer-1", LONG_SECONDS, "")

    taken, _ = await asyncio.gather(take(), steer(store, pause_run, run))
    if taken is None:
        assert (await run_of(store, run)).state is State.PAUSED
    else:
        assert await directive(store, taken) is Directive.PAUSE
