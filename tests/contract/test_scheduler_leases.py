"""Leases over every scheduler's store: one holder at a time, and a stale one changes nothing."""

import asyncio
import contextlib

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.errors import LeaseLostError
from services.scheduler.core.lease_run import Lease, expire_leases, fail_run, lease_run
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import ATTEMPTS_MAX, Failure, Run, State
from tests.support.runs import (
    DOMAIN,
    LONG_SECONDS,
    SHORT_SECONDS,
    TENANT,
    SchedulerSetting,
    beat,
    bring_to,
    complete,
    heartbeat_of,
    lease,
    make_head,
    move,
    point_of,
    queue,
    run_of,
)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def expire(store: SchedulerStore) -> list[Run]:
    async with store.begin(EVERYONE) as unit:
        return await expire_leases(unit)


async def test_the_oldest_queued_run_is_leased_first(setting: SchedulerSetting) -> None:
    queued = []
    for domain in ("dating", "hiring", "founders"):
        queued.append(await queue(setting.store, domain))
        await setting.wait(0.001)
    await move(setting.store, queued[0], State.CANCELLED)
    assert [(await lease(setting.store)).run_id for _ in range(2)] == [
        run.run_id for run in queued[1:]
    ]


async def test_there_is_nothing_to_lease_when_nothing_is_queued(store: SchedulerStore) -> None:
    for state in set(State) - {State.QUEUED}:
        await bring_to(store, await queue(store, str(state)), state)
    async with store.begin(EVERYONE) as unit:
        assert await lease_run(unit, "trainer-1", LONG_SECONDS) is None


async def test_of_twenty_racing_trainers_no_two_get_one_run(store: SchedulerStore) -> None:
    queued = [await queue(store, f"domain-{index}") for index in range(8)]

    async def take(index: int) -> Lease | None:
        async with store.begin(EVERYONE) as unit:
            return await lease_run(unit, f"trainer-{index}", LONG_SECONDS)

    leases = await asyncio.gather(*(take(index) for index in range(20)))
    taken = [found.run for found in leases if found is not None]
    assert sorted(run.run_id for run in taken) == [run.run_id for run in queued]
    assert len({run.token for run in taken}) == 8


async def test_a_lease_starts_the_run_and_notes_the_head_in_use(store: SchedulerStore) -> None:
    head = await make_head(store)
    queued = await queue(store)
    async with store.begin(EVERYONE) as unit:
        found = await lease_run(unit, "trainer-1", LONG_SECONDS)
    assert found is not None
    assert found.incumbent_manifest_digest == head.manifest_digest
    run = found.run
    assert (run.run_id, run.state, run.attempt) == (queued.run_id, State.STARTING, 1)
    assert run.incumbent == head.head
    assert run.start_time is not None
    assert await run_of(store, run) == run


async def test_tokens_grow_from_lease_to_lease_over_all_runs(store: SchedulerStore) -> None:
    tokens = []
    for domain in ("dating", "hiring"):
        await queue(store, domain)
        for _ in range(3):
            run = await lease(store)
            tokens.append(run.token)
            await move(store, run, State.QUEUED)
        await move(store, run, State.CANCELLED)
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


async def test_a_later_lease_counts_an_attempt_and_keeps_the_first_start(
    setting: SchedulerSetting,
) -> None:
    await queue(setting.store)
    first = await lease(setting.store)
    await setting.wait(0.001)
    await move(setting.store, first, State.QUEUED)
    second = await lease(setting.store)
    assert (second.attempt, second.start_time) == (2, first.start_time)


async def test_a_requeued_run_keeps_its_place_and_its_checkpoint(setting: SchedulerSetting) -> None:
    store = setting.store
    await queue(store)
    run = await lease(store)
    await setting.wait(0.001)
    await queue(store, "hiring")
    report = heartbeat_of(snapshot_digest="ab" * 32, checkpoint_digest="cd" * 32)
    await beat(store, run, report)
    await move(store, run, State.QUEUED)
    again = await lease(store)
    assert again.run_id == run.run_id
    assert (again.snapshot_digest, again.checkpoint_digest) == ("ab" * 32, "cd" * 32)


async def test_a_lease_ends_by_time_alone_unless_it_is_extended(setting: SchedulerSetting) -> None:
    store = setting.store
    for domain in ("silent", "beating", "patient"):
        await queue(store, domain)
    silent, beating = await lease(store, SHORT_SECONDS), await lease(store, SHORT_SECONDS)
    patient = await lease(store, LONG_SECONDS)
    await beat(store, beating, heartbeat_of())
    await setting.wait(2 * SHORT_SECONDS)
    async with store.begin(EVERYONE) as unit:
        expired = await unit.lock_expired_runs()
    assert expired == [await run_of(store, silent)]
    assert (await run_of(store, patient)).state is State.STARTING


@pytest.mark.parametrize("state", [State.QUEUED, State.CANCELLED, State.FAILED, State.SUCCEEDED])
async def test_a_run_that_nobody_holds_has_no_lease_to_expire(
    setting: SchedulerSetting, state: State
) -> None:
    await queue(setting.store)
    run = await lease(setting.store, SHORT_SECONDS)
    await move(setting.store, run, state)
    await setting.wait(2 * SHORT_SECONDS)
    assert await expire(setting.store) == []
    assert (await run_of(setting.store, run)).state is state


async def test_a_move_between_phases_leaves_the_end_of_the_lease(setting: SchedulerSetting) -> None:
    await queue(setting.store)
    run = await lease(setting.store, SHORT_SECONDS)
    await move(setting.store, run, State.RUNNING)
    await setting.wait(2 * SHORT_SECONDS)
    assert [expired.run_id for expired in await expire(setting.store)] == [run.run_id]


async def test_an_expired_lease_is_taken_back_once_by_racing_scheduler_pods(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    for index in range(5):
        await queue(store, f"domain-{index}")
        await lease(store, SHORT_SECONDS)
    await setting.wait(2 * SHORT_SECONDS)
    taken = await asyncio.gather(*(expire(store) for _ in range(4)))
    assert sum(len(runs) for runs in taken) == 5
    assert await store.queued_count() == 5


async def test_a_run_whose_trainers_all_fall_silent_fails_for_good(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    run = await queue(store)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        assert (await lease(store, SHORT_SECONDS)).attempt == attempt
        await setting.wait(2 * SHORT_SECONDS)
        await expire(store)
    ended = await run_of(store, run)
    assert ended.failure is not None
    assert (ended.state, ended.failure.reason) == (State.FAILED, "ATTEMPTS_EXHAUSTED")
    assert await setting.events() == ["run.started", "run.failed"]


async def test_a_heartbeat_keeps_progress_and_the_digests_it_brings(store: SchedulerStore) -> None:
    await queue(store)
    run = await lease(store)
    first = heartbeat_of(steps=10, snapshot_digest="ab" * 32)
    second = heartbeat_of(steps=20, checkpoint_digest="cd" * 32)
    for heartbeat in (first, second, heartbeat_of(steps=30)):
        assert await beat(store, run, heartbeat)
    now = await run_of(store, run)
    assert (now.steps_done_count, now.steps_count) == (30, 100)
    assert (now.snapshot_digest, now.checkpoint_digest) == ("ab" * 32, "cd" * 32)
    assert (now.state, now.token, now.attempt) == (State.RUNNING, run.token, 1)


async def test_a_loss_curve_has_one_point_a_step_the_latest_in_order(store: SchedulerStore) -> None:
    await queue(store)
    run = await lease(store)
    later, earlier = point_of(20), point_of(10)
    await beat(store, run, heartbeat_of(later, earlier))
    again = point_of(20, 0.25, "light")
    await beat(store, run, heartbeat_of(again, point_of(30)))
    assert (await run_of(store, run)).loss_curve == (earlier, again, point_of(30))


async def test_of_two_points_of_one_step_in_one_heartbeat_the_last_is_kept(
    store: SchedulerStore,
) -> None:
    await queue(store)
    run = await lease(store)
    last = point_of(10, 0.25, "light")
    await beat(store, run, heartbeat_of(point_of(10), last))
    assert (await run_of(store, run)).loss_curve == (last,)


async def test_the_holder_of_an_earlier_lease_can_change_nothing(setting: SchedulerSetting) -> None:
    store = setting.store
    await queue(store)
    stale = await lease(store)
    await move(store, stale, State.QUEUED)
    for _ in range(2):  # while the run waits, and once another trainer holds it
        now = await run_of(store, stale)
        with pytest.raises(LeaseLostError):
            await beat(store, stale, heartbeat_of(point_of(10)))
        with pytest.raises(LeaseLostError):
            await complete(store, stale)
        async with store.begin(EVERYONE) as unit:
            failure = Failure("TRAINER_ERROR", "stale", retriable=False)
            with pytest.raises(LeaseLostError):
                await fail_run(unit, TENANT, stale.run_id, stale.token, failure)
        assert await run_of(store, stale) == now
        assert await store.list_heads(TENANT, DOMAIN, "", 10) == []
        if now.state is State.QUEUED:
            await lease(store)


async def test_units_that_lock_one_run_run_one_after_another(store: SchedulerStore) -> None:
    run = await queue(store)
    seen: list[str] = []

    async def work() -> None:
        async with store.begin(EVERYONE) as unit:
            assert await unit.lock_run(TENANT, run.run_id) is not None
            seen.append("in")
            await asyncio.sleep(0.005)
            seen.append("out")

    await asyncio.gather(*(work() for _ in range(6)))
    assert seen == ["in", "out"] * 6


async def test_of_a_lease_and_a_cancellation_at_once_the_run_ends_cancelled(
    store: SchedulerStore,
) -> None:
    run = await queue(store)

    async def cancel() -> None:
        async with store.begin(EVERYONE) as unit:
            await cancel_run(unit, TENANT, run.run_id)

    async def take() -> None:
        async with store.begin(EVERYONE) as unit:
            await lease_run(unit, "trainer-1", LONG_SECONDS)

    await asyncio.gather(take(), cancel(), take())
    assert (await run_of(store, run)).state is State.CANCELLED
    assert await store.queued_count() == 0


async def test_a_heartbeat_of_a_cancelled_run_is_told_to_stop(store: SchedulerStore) -> None:
    await queue(store)
    run = await lease(store)
    cancelled = await move(store, run, State.CANCELLED)
    assert not await beat(store, run, heartbeat_of(point_of(10)))
    assert await run_of(store, run) == cancelled


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
async def test_a_heartbeat_that_comes_after_the_end_changes_nothing(
    setting: SchedulerSetting, state: State
) -> None:
    await queue(setting.store)
    run = await lease(setting.store)
    ended = await move(setting.store, run, state)
    with contextlib.suppress(LeaseLostError):
        assert not await beat(setting.store, run, heartbeat_of(point_of(10)))
    assert await run_of(setting.store, run) == ended
    await setting.wait(2 * SHORT_SECONDS)
    assert await expire(setting.store) == []
