"""Which heads learned from which snapshots, over every scheduler's store."""

from services.scheduler.core.head import LearnedHead
from services.scheduler.core.ports import SchedulerStore
from tests.support.runs import DOMAIN, TENANT, beat, complete, heartbeat_of, lease, queue

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
