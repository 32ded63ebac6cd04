"""Matching policies, over every scheduler's store."""

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.matching_policy import MatchingPolicy
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.runs import DOMAIN, TENANT, make_head

CHOICE = MatchingPolicy(exploration=0.125)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def save(
    store: SchedulerStore, policy: MatchingPolicy, tenant: str = TENANT, domain: str = DOMAIN
) -> None:
    async with store.begin(EVERYONE) as unit:
        await unit.save_matching_policy(tenant, domain, policy)


async def promoted(store: SchedulerStore) -> list[tuple[str, str, str, float]]:
    """What serving is told, page by page."""
    found: list[tuple[str, str, str, float]] = []
    while page := await store.list_promoted(found[-1][:2] if found else ("", ""), 1):
        found += [(head.tenant, head.domain, head.head, head.exploration) for head in page]
    return found


async def test_nothing_is_explored_at_first(store: SchedulerStore) -> None:
    assert await store.read_matching_policy(TENANT, DOMAIN) == MatchingPolicy()
    assert await promoted(store) == []


async def test_a_choice_replaces_the_one_before_and_no_other_domains(
    store: SchedulerStore,
) -> None:
    await save(store, CHOICE)
    await save(store, CHOICE, TENANT, "hiring")
    await save(store, CHOICE, "globex", DOMAIN)
    await save(store, MatchingPolicy(exploration=1.0))
    assert await store.read_matching_policy(TENANT, DOMAIN) == MatchingPolicy(exploration=1.0)
    assert await store.read_matching_policy(TENANT, "hiring") == CHOICE
    assert await store.read_matching_policy("globex", DOMAIN) == CHOICE


async def test_serving_is_told_of_heads_and_of_explorations(store: SchedulerStore) -> None:
    dating, hiring = await make_head(store), await make_head(store, "hiring")
    await save(store, CHOICE)
    await save(store, CHOICE, TENANT, "alone")
    await save(store, MatchingPolicy(), TENANT, "neither")
    assert await promoted(store) == [
        (TENANT, "alone", "", 0.125),
        (TENANT, DOMAIN, dating.head, 0.125),
        (TENANT, "hiring", hiring.head, 0.0),
    ]


async def test_a_unit_that_fails_leaves_the_choice(store: SchedulerStore) -> None:
    await save(store, CHOICE)

    async def act(unit: SchedulerUnit) -> None:
        await unit.save_matching_policy(TENANT, DOMAIN, MatchingPolicy())

    with pytest.raises(DeliberateError):
        await act_and_fail(store.begin(EVERYONE), act)
    assert await store.read_matching_policy(TENANT, DOMAIN) == CHOICE
