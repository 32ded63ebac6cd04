"""Pinned promotion, over every scheduler's store."""

import asyncio

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.complete_run import PINNED_REASON
from services.scheduler.core.errors import HeadNotFoundError
from services.scheduler.core.pin_head import pin_head, unpin_head
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.verdict import GENERAL
from tests.support.runs import (
    CLOCK,
    DOMAIN,
    TENANT,
    SchedulerSetting,
    complete,
    lease,
    make_head,
    queue,
)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def pin(store: SchedulerStore, head: str = "") -> tuple[str, str]:
    async with store.begin(EVERYONE) as unit:
        return await pin_head(unit, CLOCK, TENANT, DOMAIN, head)


async def unpin(store: SchedulerStore) -> str:
    async with store.begin(EVERYONE) as unit:
        return await unpin_head(unit, TENANT, DOMAIN)


async def roll_back(store: SchedulerStore, head: str = "") -> tuple[str, str]:
    async with store.begin(EVERYONE) as unit:
        return await roll_back_head(unit, CLOCK, TENANT, DOMAIN, head)


async def in_use(store: SchedulerStore) -> list[str]:
    return [head.head for head in await store.list_promoted(("", ""), 10)]


async def test_nothing_is_pinned_at_first(store: SchedulerStore) -> None:
    assert await store.pinned_head(TENANT, DOMAIN) is None
    assert await unpin(store) == GENERAL
    await make_head(store)
    assert await store.pinned_head(TENANT, DOMAIN) is None


async def test_a_pinned_head_stays_and_the_run_that_passed_says_so(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    first = await make_head(store)
    assert await pin(store) == (first.head, first.head)
    assert await store.pinned_head(TENANT, DOMAIN) == first.head
    second = await make_head(store)
    assert (second.promoted, second.verdict.promoted, second.verdict.passed) == (False, False, True)
    assert second.verdict.reasons == (PINNED_REASON.format(first.head),)
    assert await in_use(store) == [first.head]
    assert (await setting.events())[-3:] == ["head.pinned", "run.started", "run.completed"]


async def test_a_head_that_failed_its_rules_hears_of_them_not_of_the_pin(
    store: SchedulerStore,
) -> None:
    await pin(store)
    held = await make_head(store, promoted=False)
    assert not held.verdict.passed
    assert "pinned" not in " ".join(held.verdict.reasons)


async def test_unpinning_promotes_nothing_and_the_next_run_may(setting: SchedulerSetting) -> None:
    store = setting.store
    await pin(store)
    assert await store.pinned_head(TENANT, DOMAIN) == ""  # the encoder alone
    await make_head(store)
    assert await unpin(store) == GENERAL
    assert await in_use(store) == []
    third = await make_head(store)
    assert await in_use(store) == [third.head]
    assert "head.unpinned" in await setting.events()


async def test_pinning_another_head_puts_it_in_use_if_it_has_earned_that(
    store: SchedulerStore,
) -> None:
    first = await make_head(store)
    await pin(store)
    passed = await make_head(store)
    failed = await make_head(store, promoted=False)
    assert await pin(store, passed.head) == (passed.head, first.head)
    assert await in_use(store) == [passed.head]
    assert await pin(store, GENERAL) == (GENERAL, passed.head)
    assert await pin(store, first.head) == (first.head, GENERAL)
    for unknown in (failed.head, "u_acme.dating.2020-01-01.001"):
        with pytest.raises(HeadNotFoundError):
            await pin(store, unknown)
    assert await in_use(store) == [first.head]


async def test_rolling_back_takes_the_pin_along(store: SchedulerStore) -> None:
    first, second = await make_head(store), await make_head(store)
    await pin(store)
    assert await roll_back(store) == (first.head, second.head)
    assert await store.pinned_head(TENANT, DOMAIN) == first.head


async def test_pinning_and_unpinning_twice_is_told_once(setting: SchedulerSetting) -> None:
    for act in (pin, pin, unpin, unpin):
        await act(setting.store)
    assert await setting.events() == ["head.pinned", "head.unpinned"]


async def test_a_pin_holds_for_its_domain_alone(store: SchedulerStore) -> None:
    await pin(store)
    assert await store.pinned_head(TENANT, "hiring") is None
    assert await store.pinned_head("globex", DOMAIN) is None
    assert (await make_head(store, "hiring")).promoted


async def test_of_a_promotion_and_a_pin_at_once_one_comes_first(store: SchedulerStore) -> None:
    await queue(store)
    run = await lease(store)
    verdict, pinned = await asyncio.gather(complete(store, run), pin(store))
    assert await store.pinned_head(TENANT, DOMAIN) == ("" if pinned[0] == GENERAL else pinned[0])
    assert verdict.promoted == (pinned[0] != GENERAL)
