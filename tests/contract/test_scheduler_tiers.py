"""The tier between tenants and the encoder, over every scheduler's store."""

import dataclasses

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.complete_run import MOVED_REASON, complete_run
from services.scheduler.core.errors import HeadNotFoundError
from services.scheduler.core.head import DOMAIN_TIER, SHARED, TENANT_TIER, Head
from services.scheduler.core.in_use import read_in_use
from services.scheduler.core.lease_run import Lease, lease_run
from services.scheduler.core.pin_head import pin_head
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.run import Run
from services.scheduler.core.verdict import GENERAL
from tests.support.runs import (
    CLOCK,
    DOMAIN,
    LONG_SECONDS,
    SHORT_SECONDS,
    TENANT,
    SchedulerSetting,
    complete,
    heartbeat_of,
    make_head,
    queue,
    run_of,
    verdict_of,
)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def make_domain_head(store: SchedulerStore) -> Head:
    """Trains a domain head and puts it in use."""
    return await make_head(store, tenant=SHARED)


async def lease_next(store: SchedulerStore, seconds: float = LONG_SECONDS) -> Lease:
    """Leases the oldest queued run."""
    async with store.begin(EVERYONE) as unit:
        found = await lease_run(unit, "trainer-1", seconds)
    assert found is not None
    return found


async def roll_back(store: SchedulerStore, head: str = "") -> tuple[str, str]:
    async with store.begin(EVERYONE) as unit:
        return await roll_back_head(unit, CLOCK, TENANT, DOMAIN, head)


async def in_use(store: SchedulerStore) -> str:
    """The head that answers the tenant's matches."""
    found = await read_in_use(store, TENANT, DOMAIN)
    return GENERAL if found is None else found.head


async def test_a_domain_head_names_no_tenant_and_serves_who_has_none(store: SchedulerStore) -> None:
    head = await make_domain_head(store)
    assert head.head.startswith(f"{DOMAIN}.")
    assert (head.tenant, head.tier, head.parent) == (SHARED, DOMAIN_TIER, "")
    assert await in_use(store) == head.head
    assert await store.read_head(TENANT, head.head) is None
    assert await store.list_heads(TENANT, DOMAIN, "", 10) == []
    (promoted,) = await store.list_promoted(("", ""), 10)
    assert (promoted.tenant, promoted.domain, promoted.tier) == (SHARED, DOMAIN, DOMAIN_TIER)


async def test_a_tenants_run_is_measured_against_the_domain_head_and_starts_from_it(
    store: SchedulerStore,
) -> None:
    above = await make_domain_head(store)
    await queue(store)
    lease = await lease_next(store)
    assert (lease.run.incumbent, lease.run.prior) == (above.head, above.head)
    assert lease.incumbent_manifest_digest == lease.prior_manifest_digest == above.manifest_digest
    await complete(store, lease.run)
    own = await store.head_in_use(TENANT, DOMAIN)
    assert own is not None
    assert (own.tier, own.parent) == (TENANT_TIER, above.head)
    assert await in_use(store) == own.head
    # The next one is measured against the tenant's own, and starts from the domain's all the same.
    await queue(store)
    lease = await lease_next(store)
    assert (lease.run.incumbent, lease.run.prior) == (own.head, above.head)


async def test_a_run_of_a_shared_domain_starts_from_nothing(store: SchedulerStore) -> None:
    first = await make_domain_head(store)
    await queue(store, tenant=SHARED)
    lease = await lease_next(store)
    assert (lease.run.incumbent, lease.run.prior) == (first.head, "")
    assert lease.prior_manifest_digest == ""


async def test_a_run_keeps_what_it_started_from(setting: SchedulerSetting) -> None:
    store = setting.store
    await make_domain_head(store)
    await queue(store, tenant="globex")
    first = await lease_next(store, SHORT_SECONDS)
    async with store.begin(EVERYONE) as unit:
        await unit.extend_lease(first.run, SHORT_SECONDS, heartbeat_of())
    newer = await promote_another(store)
    await setting.wait(2 * SHORT_SECONDS)
    await give_back(store)
    second = await lease_next(store)
    assert second.run.run_id == first.run.run_id
    assert (second.run.incumbent, second.run.prior) == (newer.head, first.run.prior)
    assert second.prior_manifest_digest == first.prior_manifest_digest
    assert (await run_of(store, second.run)).prior == first.run.prior


async def promote_another(store: SchedulerStore) -> Head:
    """Another domain head comes into use while a run of a tenant is leased."""
    await queue(store, tenant=SHARED)
    run = (await lease_next(store)).run
    await complete(store, run)
    found = await store.head_in_use(SHARED, DOMAIN)
    assert found is not None
    return found


async def give_back(store: SchedulerStore) -> None:
    """Takes runs back whose lease has ended."""
    async with store.begin(EVERYONE) as unit:
        for run in await unit.lock_expired_runs():
            await unit.move_run(run, type(run.state).QUEUED)


async def test_a_domain_head_that_comes_during_a_run_voids_its_comparison(
    store: SchedulerStore,
) -> None:
    await make_domain_head(store)
    await queue(store)
    run = (await lease_next(store)).run
    newer = await promote_another(store)
    verdict = await complete(store, run)
    assert (verdict.promoted, verdict.reasons) == (False, (MOVED_REASON,))
    assert await in_use(store) == newer.head


async def end_unfit(store: SchedulerStore, run: Run) -> None:
    """Ends a run that could only be measured against the encoder."""
    async with store.begin(EVERYONE) as unit:
        await complete_run(
            unit,
            CLOCK,
            tenant=run.job.tenant,
            run_id=run.run_id,
            token=run.token,
            manifest_digest="cd" * 32,
            verdict=verdict_of(GENERAL),
        )


async def test_a_domain_head_that_does_not_fit_is_nobodys_parent(store: SchedulerStore) -> None:
    await make_domain_head(store)
    await queue(store)
    run = (await lease_next(store)).run
    await end_unfit(store, run)
    own = await store.head_in_use(TENANT, DOMAIN)
    assert own is not None
    assert (own.parent, own.verdict.promoted) == ("", True)
    assert await store.ancestors(TENANT, own.head, 10) == []


async def test_the_lineage_goes_on_through_the_domain(store: SchedulerStore) -> None:
    domain = [await make_domain_head(store) for _ in range(2)]
    tenant = [await make_head(store) for _ in range(2)]
    found = await store.ancestors(TENANT, tenant[1].head, 10)
    assert [(ancestor.head, ancestor.tier) for ancestor in found] == [
        (tenant[0].head, TENANT_TIER),
        (domain[1].head, DOMAIN_TIER),
        (domain[0].head, DOMAIN_TIER),
    ]
    assert await store.ancestors("globex", tenant[1].head, 10) == []


async def test_rolled_back_without_an_earlier_head_a_tenant_is_served_by_the_domain(
    store: SchedulerStore,
) -> None:
    above = await make_domain_head(store)
    first, second = await make_head(store), await make_head(store)
    assert await roll_back(store) == (first.head, second.head)
    assert await roll_back(store) == (above.head, first.head)
    assert await in_use(store) == above.head
    with pytest.raises(HeadNotFoundError):
        await roll_back(store)
    await roll_back(store, second.head)
    assert await roll_back(store, above.head) == (above.head, second.head)
    await roll_back(store, second.head)
    assert await roll_back(store, GENERAL) == (above.head, second.head)


async def test_a_shared_head_is_rolled_back_for_all(store: SchedulerStore) -> None:
    first, second = [await make_domain_head(store) for _ in range(2)]
    async with store.begin(EVERYONE) as unit:
        moved = await roll_back_head(unit, CLOCK, SHARED, DOMAIN, "")
    assert moved == (second.parent, second.head) == (first.head, second.head)
    assert await in_use(store) == first.head
    async with store.begin(EVERYONE) as unit:
        await roll_back_head(unit, CLOCK, SHARED, DOMAIN, "")
    assert await in_use(store) == GENERAL


async def test_a_tenant_may_pin_that_it_has_no_head_of_its_own(store: SchedulerStore) -> None:
    above = await make_domain_head(store)
    async with store.begin(EVERYONE) as unit:
        assert await pin_head(unit, CLOCK, TENANT, DOMAIN, "") == (above.head, above.head)
    await queue(store)
    verdict = await complete(store, (await lease_next(store)).run)
    assert not verdict.promoted
    assert above.head in verdict.reasons[0]


async def test_heads_that_learned_from_a_shared_snapshot_are_found_with_the_tenants_own(
    store: SchedulerStore,
) -> None:
    digests = {}
    for tenant in (SHARED, TENANT):
        await queue(store, tenant=tenant)
        run = (await lease_next(store)).run
        digests[tenant] = ("ab" if tenant == SHARED else "cd") * 32
        async with store.begin(EVERYONE) as unit:
            told = heartbeat_of(snapshot_digest=digests[tenant])
            await unit.extend_lease(run, LONG_SECONDS, told)
            run = dataclasses.replace(run, snapshot_digest=digests[tenant])
        await complete(store, run)
    snapshots = [(DOMAIN, digest) for digest in digests.values()]
    found = await store.list_heads_of(TENANT, snapshots, "", 10)
    assert [one.head.tier for one in found] == [TENANT_TIER, DOMAIN_TIER]
    rest = await store.list_heads_of(TENANT, snapshots, found[0].head.head, 10)
    assert rest == found[1:]
    assert await store.list_heads_of(TENANT, snapshots[1:], "", 10) == found[:1]
