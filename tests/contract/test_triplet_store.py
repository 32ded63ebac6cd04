"""What every triplet store does with domains, people and counts, in dictionaries and PostgreSQL."""

import asyncio
import dataclasses
import datetime
import sys

import numpy as np
import pytest

from services.triplets.core.errors import DomainNotFoundError, FieldInvalidError
from services.triplets.core.ports import DomainCounts, TripletStore
from services.triplets.core.profile import Value
from services.triplets.core.put_schema import put_schema
from services.triplets.core.schema import Field
from services.triplets.core.tally import Tally
from tests.support.domains import (
    DOMAIN,
    GROWN_SCHEMA,
    MOMENT,
    SCHEMA,
    TENANT,
    add_users,
    changes_since,
    profile_of,
    revision_of,
    schema_of,
)


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with one empty domain."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    return triplet_store


async def numbers_of(store: TripletStore, *user_ids: str) -> dict[str, int]:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        return dict(await unit.find_numbers(user_ids))


async def test_a_domain_is_created_once_and_keeps_its_first_schema(store: TripletStore) -> None:
    assert not await store.create_domain(TENANT, GROWN_SCHEMA)
    assert await store.read_schema(TENANT, DOMAIN) == SCHEMA


async def test_of_twenty_racing_creations_one_succeeds(triplet_store: TripletStore) -> None:
    schemas = [dataclasses.replace(SCHEMA, dim=dim) for dim in range(1, 21)]
    created = await asyncio.gather(*(triplet_store.create_domain(TENANT, s) for s in schemas))
    assert created.count(True) == 1
    assert await triplet_store.read_schema(TENANT, DOMAIN) == schemas[created.index(True)]


async def test_a_fresh_domain_has_revision_zero_and_nothing_in_it(store: TripletStore) -> None:
    assert await store.read_counts(TENANT, DOMAIN) == DomainCounts(
        tenant=TENANT,
        domain=DOMAIN,
        revision=0,
        triplets_count=0,
        positives_count=0,
        trained_triplets_count=0,
    )
    assert [change.revision for change in await changes_since(store, -1)] == [0]


@pytest.mark.parametrize(("tenant", "domain"), [("globex", DOMAIN), (TENANT, "hiring")])
async def test_the_domain_of_another_tenant_and_an_unknown_domain_are_not_there(
    store: TripletStore, tenant: str, domain: str
) -> None:
    await add_users(store, ["ada"])
    assert await store.read_schema(tenant, domain) is None
    assert await store.read_profile(tenant, domain, "ada") is None
    assert await store.read_counts(tenant, domain) is None
    assert [change async for change in store.read_changes(tenant, domain, -1)] == []
    with pytest.raises(DomainNotFoundError):
        await store.read_arrays(tenant, domain, 1)
    with pytest.raises(DomainNotFoundError) as caught:
        async with store.open_domain(tenant, domain):
            pytest.fail("the unit opened")
    assert caught.value.metadata == {"domain": domain}


async def test_a_profile_is_read_as_it_was_saved(store: TripletStore) -> None:
    values: dict[str, Value] = {"age": 41.0, "city": 'Zürich "West"', "about": "naïve 🙂\n"}
    profile = profile_of("ada", values, (0.5, -0.25, 2**-14, 0.0))
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        update_time = await unit.save_profile(profile, [41.0])
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    assert stored.schema == SCHEMA
    assert stored.update_time == update_time > before
    assert stored.profile.vector is not None
    assert profile.vector is not None
    assert stored.profile.vector.tolist() == profile.vector.tolist()
    assert stored.profile.vector.dtype == np.float16
    without = (dataclasses.replace(p, vector=None) for p in (stored.profile, profile))
    assert next(without) == next(without)


@pytest.mark.parametrize("number", [0.1, -7.0, 1e15, 1e23, 5e-324, sys.float_info.max])
async def test_a_number_of_any_size_is_read_as_it_was_saved(
    store: TripletStore, number: float
) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile_of("ada", {"age": number}), [number])
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    age = stored.profile.values["age"]
    assert (age, type(age)) == (number, float)


async def test_a_person_without_text_has_no_vector_and_no_encoder(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile_of("ada", vector=None), [30.0])
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    assert stored.profile == profile_of("ada", vector=None)


async def test_an_unknown_user_is_not_found(store: TripletStore) -> None:
    await add_users(store, ["ada"])
    assert await store.read_profile(TENANT, DOMAIN, "bob") is None
    assert await numbers_of(store, "ada", "bob") == {"ada": 0}


async def test_users_are_numbered_densely_in_the_order_of_their_arrival(
    store: TripletStore,
) -> None:
    await add_users(store, ["cleo", "ada"])
    await add_users(store, ["bob"])
    assert await numbers_of(store, "ada", "bob", "cleo") == {"cleo": 0, "ada": 1, "bob": 2}


async def test_a_user_who_is_replaced_keeps_their_number(store: TripletStore) -> None:
    await add_users(store, ["ada", "bob"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile_of("ada", {"age": 31.0}), [31.0])
        await unit.save_profile(profile_of("cleo"), [30.0])
    assert await numbers_of(store, "ada", "bob", "cleo") == {"ada": 0, "bob": 1, "cleo": 2}
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    assert stored.profile.values == {"age": 31.0}


async def test_numbers_of_two_domains_are_independent(store: TripletStore) -> None:
    await store.create_domain(TENANT, schema_of("hiring"))
    await add_users(store, ["ada", "bob"])
    await add_users(store, ["bob"], "hiring")
    async with store.open_domain(TENANT, "hiring") as unit:
        assert await unit.find_numbers(["ada", "bob"]) == {"bob": 0}


async def test_racing_units_number_twenty_users_densely(store: TripletStore) -> None:
    user_ids = [f"user-{index}" for index in range(20)]
    await asyncio.gather(*(add_users(store, [user_id]) for user_id in user_ids))
    assert sorted((await numbers_of(store, *user_ids)).values()) == list(range(20))
    assert await revision_of(store) == 20


async def test_a_new_user_has_an_empty_tally_and_a_replaced_one_keeps_theirs(
    store: TripletStore,
) -> None:
    tally = Tally((1, 0, 2, 0), (0, 0, 0, 3))
    await add_users(store, ["ada", "bob"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.tallies([0, 1]) == {0: Tally(), 1: Tally()}
        await unit.save_tallies({1: tally}, 0, 0)
        assert await unit.tallies([1]) == {1: tally}
    await add_users(store, ["bob"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.tallies([0, 1]) == {0: Tally(), 1: tally}


async def test_a_schema_is_replaced(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert unit.schema == SCHEMA
        await unit.save_schema(GROWN_SCHEMA)
    assert await store.read_schema(TENANT, DOMAIN) == GROWN_SCHEMA
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert unit.schema == GROWN_SCHEMA


async def test_each_changing_unit_moves_the_revision_by_one(store: TripletStore) -> None:
    await add_users(store, ["ada", "bob", "cleo"])
    assert await revision_of(store) == 1
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile_of("dan"), [30.0])
        await unit.save_tallies({0: Tally((1, 0, 0, 0))}, 0, 0)
        await unit.append_outcomes([])
        await unit.save_schema(GROWN_SCHEMA)
    assert await revision_of(store) == 2


async def test_looking_and_counting_what_was_trained_leave_the_revision_alone(
    store: TripletStore,
) -> None:
    await add_users(store, ["ada"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.find_numbers(["ada"])
        await unit.save_trained_count(7)
    assert await revision_of(store) == 1


async def test_triplets_add_up_beside_those_of_the_last_training(
    store: TripletStore,
) -> None:
    for added in (5, -2, 4):
        async with store.open_domain(TENANT, DOMAIN) as unit:
            await unit.save_tallies({}, added, 0)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_trained_count(3)
        assert (unit.counts.triplets_count, unit.counts.trained_triplets_count) == (7, 0)
    counts = await store.read_counts(TENANT, DOMAIN)
    assert counts is not None
    assert (counts.triplets_count, counts.trained_triplets_count) == (7, 3)


async def test_positive_outcomes_add_up_and_put_a_domain_without_triplets_on_the_list(
    store: TripletStore,
) -> None:
    for added in (5, -2):
        async with store.open_domain(TENANT, DOMAIN) as unit:
            await unit.save_tallies({}, 0, added)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert unit.counts.positives_count == 3
    (counts,) = await store.list_counts(("", ""), 2)
    assert (counts.domain, counts.triplets_count, counts.positives_count) == (DOMAIN, 0, 3)


async def test_what_was_trained_may_exceed_what_is_there(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_trained_count(3)
    counts = await store.read_counts(TENANT, DOMAIN)
    assert counts is not None
    assert (counts.triplets_count, counts.trained_triplets_count) == (0, 3)


async def test_pages_of_counts_hold_each_domain_with_triplets_once_and_in_order(
    triplet_store: TripletStore,
) -> None:
    keys = [("beta", "b"), ("acme", "x-1"), ("acme", "a"), ("beta", "a_2"), ("acme-2", "a")]
    for tenant, domain in [*keys, ("acme", "empty")]:
        await triplet_store.create_domain(tenant, schema_of(domain))
    for tenant, domain in keys:
        async with triplet_store.open_domain(tenant, domain) as unit:
            await unit.save_tallies({}, 1, 0)
    found: list[tuple[str, str]] = []
    while page := await triplet_store.list_counts(found[-1] if found else ("", ""), 2):
        assert len(page) <= 2
        found += [(counts.tenant, counts.domain) for counts in page]
    assert found == sorted(keys)


async def test_the_revision_of_every_domain_is_told(store: TripletStore) -> None:
    await store.create_domain(TENANT, schema_of("hiring"))
    await store.create_domain("globex", SCHEMA)
    await add_users(store, ["ada"])
    assert await store.read_revisions() == {
        (TENANT, DOMAIN): 1,
        (TENANT, "hiring"): 0,
        ("globex", DOMAIN): 0,
    }


async def test_whoever_waits_hears_of_a_change_at_once(store: TripletStore) -> None:
    waiting = asyncio.create_task(store.wait_for_change(30))
    await asyncio.sleep(0)
    await add_users(store, ["ada"])
    await asyncio.wait_for(waiting, 5)
    assert await revision_of(store) == 1


async def test_whoever_waits_without_a_change_goes_on_after_the_time(store: TripletStore) -> None:
    started = asyncio.get_running_loop().time()
    await store.wait_for_change(0.05)
    assert 0.04 < asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize("text", ["naïve 🙂", 'a "quoted"\n', "\x01\x7f", "a\0b", "\\u0000"])
async def test_a_schema_that_passes_the_checks_is_read_as_it_was_put(
    triplet_store: TripletStore, text: str
) -> None:
    field = Field(name="city", kind="hard", type="enum", members=(text,), description=text)
    schema = dataclasses.replace(SCHEMA, fields=(field,))
    try:
        await put_schema(triplet_store, TENANT, schema)
    except FieldInvalidError:
        assert "\0" in text
    else:
        assert await triplet_store.read_schema(TENANT, DOMAIN) == schema


async def test_times_are_told_in_utc(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        update_time = await unit.save_profile(profile_of("ada"), [30.0])
    assert update_time.utcoffset() == MOMENT.utcoffset() == datetime.timedelta()


async def test_domains_are_counted_by_tenant(store: TripletStore) -> None:
    for tenant, domain in ((TENANT, "hiring"), ("globex", DOMAIN)):
        await store.create_domain(tenant, dataclasses.replace(SCHEMA, domain=domain))
    counts = [await store.count_domains(tenant) for tenant in (TENANT, "globex", "initech")]
    assert counts == [2, 1, 0]
