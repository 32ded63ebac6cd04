"""Who is in which snapshot, before and after an erasure, over every triplet store."""

import pytest

from services.chassis.artifacts import memory_artifacts
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.create_snapshot import create_snapshot
from services.triplets.core.erase_user import erase_user, hash_id
from services.triplets.core.outcome import RETRACTED
from services.triplets.core.ports import OutcomeCounts, TripletStore, UserSnapshot
from services.triplets.core.report_outcomes import OutcomeDraft, check_drafts, report_outcomes
from tests.support.domains import (
    DOMAIN,
    MOMENT,
    SCHEMA,
    TENANT,
    add_users,
    revision_of,
    schema_of,
)


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with two domains, one of them with people."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    await triplet_store.create_domain(TENANT, schema_of("art"))
    await add_users(triplet_store, ["ada", "bob", "cleo", "dan"])
    return triplet_store


async def snapshot(store: TripletStore, domain: str = DOMAIN) -> str:
    """Takes a snapshot and returns its digest."""
    writer = SafetensorsSnapshots(memory_artifacts())
    taken = await create_snapshot(store, writer, TENANT, domain, await revision_of(store, domain))
    return taken.digest


async def erase(store: TripletStore, user_id: str) -> None:
    """Erases somebody in one unit."""
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await erase_user(unit, user_id)


async def held(
    store: TripletStore, user_id: str, domain: str = "", tenant: str = TENANT
) -> list[tuple[str, str, bool]]:
    """All snapshots with somebody, read one by one."""
    key = (tenant, domain, user_id, hash_id(tenant, user_id))
    found: list[UserSnapshot] = []
    after = ("", 0)
    while page := await store.list_user_snapshots(*key, after=after, limit=1):
        found += page
        after = (page[-1].domain, page[-1].snapshot_id)
    assert await store.list_user_snapshots(*key, after=("", 0), limit=100) == found
    return [(one.domain, one.digest, one.erased) for one in found]


async def test_snapshots_with_a_person_are_known_before_and_after_their_erasure(
    store: TripletStore,
) -> None:
    first = await snapshot(store)
    await add_users(store, ["gus"])
    second = await snapshot(store)
    assert await held(store, "ada") == [(DOMAIN, second, False), (DOMAIN, first, False)]
    assert await held(store, "gus") == [(DOMAIN, second, False)]
    await erase(store, "ada")
    await snapshot(store)
    assert await held(store, "ada") == [(DOMAIN, second, True), (DOMAIN, first, True)]
    await add_users(store, ["ada"])
    fourth = await snapshot(store)
    expected = [(DOMAIN, fourth, False), (DOMAIN, second, True), (DOMAIN, first, True)]
    assert await held(store, "ada") == await held(store, "ada", DOMAIN) == expected
    await add_users(store, ["ada"], "art")
    assert await held(store, "ada", "art") == []
    alike = await snapshot(store, "art")
    assert await held(store, "ada") == [("art", alike, False), *expected]
    assert await held(store, "ada", tenant="globex") == []


async def test_an_erasure_outdates_the_snapshots_with_the_person_until_they_are_dropped(
    store: TripletStore,
) -> None:
    first = await snapshot(store)
    await add_users(store, ["gus"])
    second = await snapshot(store)
    assert await store.list_outdated_snapshots() == []
    await erase(store, "gus")
    assert await store.list_outdated_snapshots() == [second]
    third = await snapshot(store)
    assert await store.list_outdated_snapshots() == [second]
    await store.drop_snapshot(second)
    assert await store.list_outdated_snapshots() == []
    assert await held(store, "gus") == [(DOMAIN, second, True)]
    await erase(store, "ada")
    assert set(await store.list_outdated_snapshots()) == {first, third}


async def test_a_person_is_known_by_their_id_and_once_erased_by_its_hash(
    store: TripletStore,
) -> None:
    await erase(store, "ada")

    async def known(user_id: str, domain: str = "", tenant: str = TENANT) -> bool:
        return await store.knows_user(tenant, domain, user_id, hash_id(tenant, user_id))

    assert [await known(one) for one in ("ada", "bob", "nobody")] == [True, True, False]
    assert [await known("ada", DOMAIN), await known("bob", DOMAIN)] == [True, True]
    assert [await known("ada", "art"), await known("bob", "art")] == [False, False]
    assert not await known("ada", tenant="globex")


async def test_standing_outcomes_are_counted(store: TripletStore) -> None:
    assert await store.count_outcomes(TENANT, "art") == OutcomeCounts(
        outcomes_count=0, positives_count=0, seekers_count=0
    )
    words = [
        ("ada", "bob", "accepted"),
        ("ada", "cleo", "expired"),
        ("bob", "ada", "converted"),
        ("cleo", "ada", RETRACTED),
    ]
    drafts = [
        OutcomeDraft(
            seeker_id=seeker, candidate_id=candidate, label=label, weight=1.0, occurred_at=MOMENT
        )
        for seeker, candidate, label in words
    ]
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await report_outcomes(unit, drafts, check_drafts(drafts, MOMENT))
    assert await store.count_outcomes(TENANT, DOMAIN) == OutcomeCounts(
        outcomes_count=3, positives_count=2, seekers_count=2
    )
    assert await store.count_outcomes(TENANT, "music") is None
    assert await store.count_outcomes("globex", DOMAIN) is None
