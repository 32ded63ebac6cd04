"""Training policies, over every scheduler's store."""

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.training_policy import PolicyChoice
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.runs import DOMAIN, TENANT

CHOICE = PolicyChoice(triplets_budget=5, cool_down_seconds=0, interval_seconds=31_536_000)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


async def save(
    store: SchedulerStore, choice: PolicyChoice, tenant: str = TENANT, domain: str = DOMAIN
) -> None:
    async with store.begin(EVERYONE) as unit:
        await unit.save_policy(tenant, domain, choice)


async def test_nothing_is_chosen_at_first(store: SchedulerStore) -> None:
    assert await store.read_policy(TENANT, DOMAIN) == PolicyChoice()
    assert await store.list_policies() == {}


@pytest.mark.parametrize("choice", [CHOICE, PolicyChoice(), PolicyChoice(triplets_budget=10**9)])
async def test_a_choice_is_read_as_it_was_saved(
    store: SchedulerStore, choice: PolicyChoice
) -> None:
    await save(store, choice)
    assert await store.read_policy(TENANT, DOMAIN) == choice
    assert await store.list_policies() == {(TENANT, DOMAIN): choice}


async def test_a_choice_replaces_the_one_before_and_no_other_domains(
    store: SchedulerStore,
) -> None:
    await save(store, CHOICE)
    await save(store, CHOICE, TENANT, "hiring")
    await save(store, CHOICE, "globex", DOMAIN)
    await save(store, PolicyChoice(interval_seconds=60))
    assert await store.read_policy(TENANT, DOMAIN) == PolicyChoice(interval_seconds=60)
    assert await store.read_policy(TENANT, "hiring") == CHOICE
    assert await store.read_policy("globex", DOMAIN) == CHOICE
    assert len(await store.list_policies()) == 3


async def test_a_unit_that_fails_leaves_the_choice(store: SchedulerStore) -> None:
    await save(store, CHOICE)

    async def act(unit: SchedulerUnit) -> None:
        await unit.save_policy(TENANT, DOMAIN, PolicyChoice())

    with pytest.raises(DeliberateError):
        await act_and_fail(store.begin(EVERYONE), act)
    assert await store.read_policy(TENANT, DOMAIN) == CHOICE
