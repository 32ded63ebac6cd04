"""Which heads learned from which snapshots, and which runs need theirs: every scheduler's store."""

import pytest

from services.scheduler.core.drop_snapshots import drop_snapshots
from services.scheduler.core.head import LearnedHead
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import State
from tests.support.runs import (
    DOMAIN,
    TENANT,
    beat,
    bring_to,
    complete,
    heartbeat_of,
    lease,
    move,
    queue,
)
from tests.support.scheduler import Triplets

A, B, C = (letter * 64 for letter in "abc")


async def learn(
    store: SchedulerStore, digest: str, domain: str = DOMAIN, tenant: str = TENANT
) -> None:
    """Makes a head from a snapshot."""
    await queue(store, domain, tenant)
    run = await lease(store)
    await beat(store, run, heartbeat_of(snapshot_digest=digest))
    await complete(store, run)


async def test_heads_are_found_by_their_snapshots_newest_first(
    scheduler_store: SchedulerStore,
) -> None:
    store = scheduler_store
    for digest in (A, B, A):
        await learn(store, digest)
    await learn(store, A, "hiring")
    await learn(store, A, tenant="globex")
    heads = await store.list_heads(TENANT, DOMAIN, "", 10)
    made = [LearnedHead(head, digest) for head, digest in zip(heads, (A, B, A), strict=True)]
    asked = [(DOMAIN, A), (DOMAIN, B), (DOMAIN, C), ("hiring", B)]
    assert await store.list_heads_of(TENANT, asked, "", 10) == made
    assert await store.list_heads_of(TENANT, asked, "", 2) == made[:2]
    assert await store.list_heads_of(TENANT, asked, made[1].head.head, 2) == made[2:]
    assert await store.list_heads_of(TENANT, asked[:1], "", 10) == [made[0], made[2]]
    assert await store.list_heads_of(TENANT, [], "", 10) == []


async def test_a_snapshot_is_in_use_while_its_run_is_active(
    scheduler_store: SchedulerStore,
) -> None:
    store = scheduler_store
    await queue(store)
    assert await store.snapshots_in_use() == set()
    run = await lease(store)
    assert await store.snapshots_in_use() == {""}
    await beat(store, run, heartbeat_of(snapshot_digest=A))
    await bring_to(store, await queue(store, "hiring"), State.PAUSED)
    assert await store.snapshots_in_use() == {A}
    await move(store, run, State.PAUSING)
    await move(store, run, State.PAUSED)
    assert await store.snapshots_in_use() == {A}
    await move(store, run, State.QUEUED)
    assert await store.snapshots_in_use() == {A}
    await complete(store, await lease(store))
    assert await store.snapshots_in_use() == set()


@pytest.mark.parametrize("told", [True, False])
async def test_outdated_snapshots_are_dropped_once_no_run_needs_them(
    scheduler_store: SchedulerStore, told: bool
) -> None:
    store, triplets = scheduler_store, Triplets()
    await queue(store)
    run = await lease(store)
    triplets.outdated = [A, B]
    if told:
        await beat(store, run, heartbeat_of(snapshot_digest=A))
    assert await drop_snapshots(store, triplets) == ([B] if told else [])
    await complete(store, run)
    assert await drop_snapshots(store, triplets) == ([A] if told else [A, B])
    assert await drop_snapshots(store, triplets) == []
    assert sorted(triplets.dropped) == [A, B]
