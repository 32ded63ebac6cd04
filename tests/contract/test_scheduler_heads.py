"""Heads, the pointer to the one in use and its history, over every scheduler's store."""

import asyncio

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.complete_run import MOVED_REASON
from services.scheduler.core.errors import HeadNotFoundError
from services.scheduler.core.head import Head, PromotedHead
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.run import State
from services.scheduler.core.verdict import GENERAL
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.runs import (
    CLOCK,
    DOMAIN,
    TENANT,
    SchedulerSetting,
    complete,
    head_for,
    lease,
    make_head,
    queue,
    run_of,
)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def put_in_use(store: SchedulerStore, head: str, domain: str = DOMAIN) -> str:
    """Moves the pointer and returns what it pointed at."""
    async with store.begin(EVERYONE) as unit:
        in_use = await unit.lock_pointer(TENANT, domain)
        previous = "" if in_use is None else in_use.head
        await unit.move_pointer(TENANT, domain, head, previous, "a test")
    return previous


async def in_use(store: SchedulerStore, domain: str = DOMAIN) -> Head | None:
    async with store.begin(EVERYONE) as unit:
        return await unit.lock_pointer(TENANT, domain)


async def roll_back(store: SchedulerStore, head: str = "") -> tuple[str, str]:
    async with store.begin(EVERYONE) as unit:
        return await roll_back_head(unit, CLOCK, TENANT, DOMAIN, head)


async def names_of(store: SchedulerStore, domain: str = DOMAIN) -> list[str]:
    return [head.head for head in await store.list_heads(TENANT, domain, "", 100)]


async def test_at_first_no_head_is_in_use(store: SchedulerStore) -> None:
    assert await in_use(store) is None
    assert await store.list_promoted(("", ""), 10) == []
    async with store.begin(EVERYONE) as unit:
        assert not await unit.was_in_use(TENANT, DOMAIN, "u_acme.dating.x")


async def test_a_new_head_is_found_as_it_was_added_and_is_not_in_use(store: SchedulerStore) -> None:
    head = head_for(await queue(store), parent="u_acme.dating.2026-05-16.001")
    async with store.begin(EVERYONE) as unit:
        await unit.add_head(head)
    async with store.begin(EVERYONE) as unit:
        assert await unit.find_head(TENANT, DOMAIN, head.head) == head
        assert await unit.find_head(TENANT, "hiring", head.head) is None
        assert await unit.find_head("globex", DOMAIN, head.head) is None
    assert await store.list_heads(TENANT, DOMAIN, "", 10) == [head]
    assert await in_use(store) is None


async def test_a_head_is_read_by_its_version_alone_in_its_tenant(store: SchedulerStore) -> None:
    held, promoted = await make_head(store, promoted=False), await make_head(store)
    for head in (held, promoted):
        assert await store.read_head(TENANT, head.head) == head
    assert (held.promoted, promoted.promoted) == (False, True)
    assert await store.read_head("globex", promoted.head) is None
    assert await store.read_head(TENANT, "u_acme.dating.x") is None


async def test_a_head_goes_back_to_those_that_it_was_measured_against(
    store: SchedulerStore,
) -> None:
    first = await make_head(store)
    held = await make_head(store, promoted=False)
    second = await make_head(store)
    third = await make_head(store)
    ancestors = await store.ancestors(TENANT, third.head, 10)
    assert [(a.head, a.run_id, a.parent, a.result) for a in ancestors] == [
        (second.head, second.run_id, first.head, "promoted"),
        (first.head, first.run_id, "", "promoted"),
    ]
    assert [a.create_time for a in ancestors] == [second.create_time, first.create_time]
    assert {a.triplets_count for a in ancestors} == {1_000}
    assert await store.ancestors(TENANT, third.head, 1) == ancestors[:1]
    assert [a.head for a in await store.ancestors(TENANT, held.head, 10)] == [first.head]
    assert await store.ancestors(TENANT, first.head, 10) == []
    assert await store.ancestors("globex", third.head, 10) == []


async def test_the_pointer_decides_which_head_is_promoted_everywhere(
    store: SchedulerStore,
) -> None:
    first, second = await make_head(store), await make_head(store, promoted=False)
    for head in (second, first):
        await put_in_use(store, head.head)
        found = await in_use(store)
        assert found is not None
        assert (found.head, found.promoted) == (head.head, True)
        assert await store.head_in_use(TENANT, DOMAIN) == found
        listed = await store.list_heads(TENANT, DOMAIN, "", 10)
        assert [item.head for item in listed if item.promoted] == [head.head]
        assert await store.list_promoted(("", ""), 10) == [
            PromotedHead(
                tenant=TENANT,
                domain=DOMAIN,
                head=head.head,
                tier="tenant",
                manifest_digest=head.manifest_digest,
            )
        ]


async def test_an_empty_pointer_means_the_encoder_alone(store: SchedulerStore) -> None:
    head = await make_head(store)
    await put_in_use(store, "")
    assert await in_use(store) is None
    assert await store.head_in_use(TENANT, DOMAIN) is None
    assert await store.list_promoted(("", ""), 10) == []
    async with store.begin(EVERYONE) as unit:
        found = await unit.find_head(TENANT, DOMAIN, head.head)
    assert found is not None
    assert not found.promoted


async def test_only_a_head_that_the_pointer_pointed_at_was_in_use(store: SchedulerStore) -> None:
    first, second, held = [
        (await make_head(store, promoted=promoted)).head for promoted in (True, True, False)
    ]
    async with store.begin(EVERYONE) as unit:
        used = [await unit.was_in_use(TENANT, DOMAIN, head) for head in (first, second, held)]
        elsewhere = [
            await unit.was_in_use(TENANT, "hiring", first),
            await unit.was_in_use("globex", DOMAIN, first),
        ]
    assert used == [True, True, False]
    assert elsewhere == [False, False]


async def test_pages_of_heads_hold_each_head_once_newest_first(store: SchedulerStore) -> None:
    made = [(await make_head(store)).head for _ in range(5)]
    await make_head(store, "hiring")
    await make_head(store, tenant="globex")
    found: list[str] = []
    while page := await store.list_heads(TENANT, DOMAIN, found[-1] if found else "", 2):
        assert len(page) <= 2
        found += [head.head for head in page]
    assert found == made[::-1]
    assert await store.list_heads(TENANT, DOMAIN, "u_acme.dating.x", 2) == []


async def test_pages_of_heads_in_use_hold_each_domain_once_in_order(store: SchedulerStore) -> None:
    keys = [("beta", "b"), ("acme", "x-1"), ("acme", "a"), ("beta", "a_2"), ("acme-2", "a")]
    for tenant, domain in keys:
        await make_head(store, domain, tenant)
    await make_head(store, "held", promoted=False)
    found: list[tuple[str, str]] = []
    while page := await store.list_promoted(found[-1] if found else ("", ""), 2):
        assert len(page) <= 2
        found += [(head.tenant, head.domain) for head in page]
    assert found == sorted(keys)


async def test_racing_moves_of_the_pointer_form_one_chain(store: SchedulerStore) -> None:
    made = [(await make_head(store, promoted=False)).head for _ in range(8)]
    previous = dict(
        zip(made, await asyncio.gather(*(put_in_use(store, head) for head in made)), strict=True)
    )
    last = await in_use(store)
    assert last is not None
    chain = [last.head]
    while before := previous[chain[-1]]:
        chain.append(before)
    assert sorted(chain) == sorted(made)


async def test_a_unit_that_fails_leaves_the_pointer_and_its_history(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    first = await make_head(store)
    second = await make_head(store, promoted=False)
    told = await setting.events()

    async def act(unit: SchedulerUnit) -> None:
        await unit.lock_pointer(TENANT, DOMAIN)
        await unit.move_pointer(TENANT, DOMAIN, second.head, first.head, "a test")
        await unit.emit_head("promoted", TENANT, DOMAIN, second, first.head)

    with pytest.raises(DeliberateError):
        await act_and_fail(store.begin(EVERYONE), act)
    assert await in_use(store) == first
    async with store.begin(EVERYONE) as unit:
        assert not await unit.was_in_use(TENANT, DOMAIN, second.head)
    assert await setting.events() == told


async def test_completing_a_run_keeps_its_head_and_promotes_it_in_one_step(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    await queue(store)
    run = await lease(store)
    verdict = await complete(store, run)
    head = await in_use(store)
    assert head is not None
    ended = await run_of(store, run)
    assert (ended.state, ended.head, ended.verdict) == (State.SUCCEEDED, head.head, verdict)
    assert (head.run_id, head.verdict) == (run.run_id, verdict)
    assert await setting.events() == ["run.started", "run.completed", "head.promoted"]


async def test_completing_a_run_again_returns_the_first_verdict_and_changes_nothing(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    await queue(store)
    run = await lease(store)
    first = await complete(store, run)
    told = await setting.events()
    assert await complete(store, run, promoted=False) == first
    assert await names_of(store) == [(await run_of(store, run)).head]
    assert await setting.events() == told


async def test_of_a_promotion_and_a_rollback_at_once_the_later_sees_the_earlier(
    store: SchedulerStore,
) -> None:
    first, second = await make_head(store), await make_head(store)
    await queue(store)
    run = await lease(store)
    assert run.incumbent == second.head
    verdict, _ = await asyncio.gather(complete(store, run), roll_back(store, first.head))
    found = await in_use(store)
    assert found is not None
    # Either the run came first, or it was measured against a head that is no longer in use.
    assert verdict.promoted or verdict.reasons == (MOVED_REASON,)
    assert found.head == first.head


async def test_rolling_back_returns_to_the_head_before(setting: SchedulerSetting) -> None:
    store = setting.store
    first, second = (await make_head(store)).head, (await make_head(store)).head
    assert await roll_back(store) == (first, second)
    found = await in_use(store)
    assert found is not None
    assert found.head == first
    assert (await setting.events())[-1] == "head.rolled_back"


async def test_rolling_back_twice_goes_back_twice(store: SchedulerStore) -> None:
    heads = [(await make_head(store)).head for _ in range(3)]
    assert await roll_back(store) == (heads[1], heads[2])
    assert await roll_back(store) == (heads[0], heads[1])
    assert await roll_back(store) == (GENERAL, heads[0])
    with pytest.raises(HeadNotFoundError):
        await roll_back(store)


async def test_rolling_back_the_only_head_returns_to_the_encoder(store: SchedulerStore) -> None:
    head = (await make_head(store)).head
    assert await roll_back(store) == (GENERAL, head)
    assert await in_use(store) is None


async def test_rolling_back_to_a_head_that_was_never_in_use_is_refused(
    store: SchedulerStore,
) -> None:
    used = (await make_head(store)).head
    held = (await make_head(store, promoted=False)).head
    for unknown in (held, "u_acme.dating.2020-01-01.001"):
        with pytest.raises(HeadNotFoundError):
            await roll_back(store, unknown)
    assert await roll_back(store, GENERAL) == (GENERAL, used)
    with pytest.raises(HeadNotFoundError):
        await roll_back(store)
    assert await roll_back(store, used) == (used, GENERAL)
