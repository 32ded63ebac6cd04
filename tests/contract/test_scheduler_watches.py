"""Watching runs, over every scheduler's store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.scheduler.core import watch_runs
from services.scheduler.core.errors import RunNotFoundError, WatchersExhaustedError
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import Run, State
from services.scheduler.core.watch_runs import RunWatches
from tests.support.runs import (
    TENANT,
    beat,
    bring_to,
    complete,
    heartbeat_of,
    lease,
    move,
    point_of,
    queue,
    run_of,
)

SOON = 0.06
LATE = 30.0


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def collect(runs: AsyncIterator[Run]) -> list[Run]:
    """Everything until the end."""
    return [run async for run in runs]


async def settle(watches: RunWatches) -> None:
    """Lets what was cancelled end."""
    for _ in range(200):
        if not watches.watchers_count and len(asyncio.all_tasks()) == 1:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("something goes on")


async def test_a_watcher_sees_state_progress_and_losses_until_the_end(
    store: SchedulerStore,
) -> None:
    queued = await queue(store)
    watches = RunWatches(store, SOON, LATE)
    runs = watches.watch(TENANT, queued.run_id)
    assert await anext(runs) == queued
    run = await lease(store)
    assert (await anext(runs)).state is State.STARTING
    await beat(store, run, heartbeat_of(point_of(10), steps=10))
    seen = await anext(runs)
    assert (seen.state, seen.steps_done_count) == (State.RUNNING, 10)
    assert seen.loss_curve == (point_of(10),)
    verdict = await complete(store, run)
    (last,) = await collect(runs)
    assert (last.state, last.verdict) == (State.SUCCEEDED, verdict)
    await settle(watches)


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED, State.CANCELLED])
async def test_a_run_that_has_ended_is_sent_once(store: SchedulerStore, state: State) -> None:
    run = await bring_to(store, await queue(store), state)
    watches = RunWatches(store, SOON, LATE)
    assert await collect(watches.watch(TENANT, run.run_id)) == [await run_of(store, run)]
    await settle(watches)


async def test_a_paused_run_is_watched_on(store: SchedulerStore) -> None:
    run = await bring_to(store, await queue(store), State.PAUSED)
    watches = RunWatches(store, SOON, LATE)
    runs = watches.watch(TENANT, run.run_id)
    assert (await anext(runs)).state is State.PAUSED
    await move(store, run, State.CANCELLED)
    assert [seen.state for seen in await collect(runs)] == [State.CANCELLED]


async def test_a_run_that_does_not_change_is_sent_now_and_then(store: SchedulerStore) -> None:
    run = await queue(store)
    watches = RunWatches(store, LATE, SOON)
    async with aclosing(watches.watch(TENANT, run.run_id)) as runs:
        assert [await anext(runs) for _ in range(3)] == [run] * 3
    await settle(watches)


async def test_one_reading_serves_all_watchers_of_a_run(
    store: SchedulerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await queue(store)
    watches = RunWatches(store, SOON, LATE)
    watching = [watches.watch(TENANT, run.run_id) for _ in range(20)]
    for runs in watching:
        await anext(runs)
    reads = 0
    plain = store.read_run

    async def read_run(tenant: str, run_id: str) -> Run | None:
        nonlocal reads
        reads += 1
        return await plain(tenant, run_id)

    monkeypatch.setattr(store, "read_run", read_run)
    await asyncio.sleep(10 * SOON)
    assert 1 <= reads <= 11
    await move(store, run, State.CANCELLED)
    ended = await asyncio.gather(*(collect(runs) for runs in watching))
    assert [[run.state for run in seen] for seen in ended] == [[State.CANCELLED]] * 20
    await settle(watches)


async def test_who_does_not_read_misses_changes_and_not_the_last(store: SchedulerStore) -> None:
    queued = await queue(store)
    watches = RunWatches(store, SOON, LATE)
    runs = watches.watch(TENANT, queued.run_id)
    await anext(runs)
    run = await lease(store)
    await beat(store, run, heartbeat_of(steps=10))
    await asyncio.sleep(4 * SOON)
    await complete(store, run)
    await asyncio.sleep(4 * SOON)
    assert [seen.state for seen in await collect(runs)] == [State.SUCCEEDED]


async def test_watchers_that_leave_are_forgotten(store: SchedulerStore) -> None:
    run = await queue(store)
    watches = RunWatches(store, SOON, LATE)

    async def watch() -> None:
        async with aclosing(watches.watch(TENANT, run.run_id)) as runs:
            async for _ in runs:
                pass

    watching = [asyncio.create_task(watch()) for _ in range(3)]
    await asyncio.sleep(4 * SOON)
    assert watches.watchers_count == 3
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    await settle(watches)


async def test_there_are_limits_to_watchers(
    store: SchedulerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_runs, "TENANT_WATCHERS_MAX", 2)
    monkeypatch.setattr(watch_runs, "WATCHERS_MAX", 3)
    ours, theirs = await queue(store), await queue(store, tenant="globex")
    watches = RunWatches(store, SOON, LATE)
    watching = [watches.watch(TENANT, ours.run_id) for _ in range(2)]
    for runs in watching:
        await anext(runs)
    with pytest.raises(WatchersExhaustedError) as caught:
        await anext(watches.watch(TENANT, ours.run_id))
    assert caught.value.metadata == {"watchers_max": "2"}
    other = watches.watch("globex", theirs.run_id)
    await anext(other)
    with pytest.raises(WatchersExhaustedError) as caught:
        await anext(watches.watch("globex", theirs.run_id))
    assert caught.value.metadata == {"watchers_max": "3"}
    await watching[0].aclose()
    await anext(watches.watch(TENANT, ours.run_id))


async def test_a_store_that_breaks_ends_the_watch(
    store: SchedulerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await queue(store)
    watches = RunWatches(store, SOON, LATE)
    runs = watches.watch(TENANT, run.run_id)
    await anext(runs)

    async def broken(_tenant: str, _run_id: str) -> Run | None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(store, "read_run", broken)
        with pytest.raises(ConnectionError):
            await anext(runs)
    assert await anext(watches.watch(TENANT, run.run_id)) == run


async def test_a_run_of_nobody_is_not_watched(store: SchedulerStore) -> None:
    run = await queue(store, tenant="globex")
    with pytest.raises(RunNotFoundError):
        await anext(RunWatches(store).watch(TENANT, run.run_id))
