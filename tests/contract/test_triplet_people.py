"""People in every triplet store: contexts that are appended, and what erasing someone leaves."""

import dataclasses
import datetime
import random
from collections.abc import Iterable

import numpy as np
import pytest

from services.chassis.artifacts import memory_artifacts
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.context import Context
from services.triplets.core.create_snapshot import create_snapshot
from services.triplets.core.erase_user import Erasure, erase_user
from services.triplets.core.errors import UserNotFoundError
from services.triplets.core.outcome import LEVELS, RETRACTED, Pair
from services.triplets.core.ports import DomainArrays, TripletStore
from services.triplets.core.profile import Provenance
from services.triplets.core.report_outcomes import OutcomeDraft, check_drafts, report_outcomes
from services.triplets.core.tally import Tally
from services.triplets.core.triplet import Triplets, form_triplets, hash_ids
from services.triplets.memory import MemoryTripletStore
from tests.support.domains import (
    DOMAIN,
    MOMENT,
    SCHEMA,
    TENANT,
    add_users,
    changes_since,
    profile_of,
    removals_in,
    revision_of,
    schema_of,
    tallies_in,
    users_in,
)

USERS = ["ada", "bob", "cleo", "dan", "eve", "finn"]


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with one domain and its people."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    await add_users(triplet_store, USERS)
    return triplet_store


def context(number: int, second: int = 0) -> Context:
    """A piece with an id by its number."""
    moment = MOMENT + datetime.timedelta(seconds=second)
    return Context(
        context_id=f"ctx_{number}", content=f"naïve {number}", source="chat", occurred_at=moment
    )


async def save_contexts(
    store: TripletStore,
    user_id: str,
    *added: Context,
    dropped: Iterable[str] = (),
    vector: list[float] | None = None,
) -> None:
    """Appends contexts in one unit."""
    changed = None if vector is None else np.array(vector, np.float16)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_contexts(
            user_id, added=added, dropped=[*dropped], vector=changed, encoder="other"
        )


async def test_contexts_are_read_newest_first_and_of_equally_old_ones_the_last_first(
    store: TripletStore,
) -> None:
    for one in (context(1, 10), context(2, 30), context(3, 20), context(4, 20)):
        await save_contexts(store, "ada", one)
    read = await store.read_contexts(TENANT, DOMAIN, "ada")
    assert read == [context(2, 30), context(4, 20), context(3, 20), context(1, 10)]
    assert await store.read_contexts(TENANT, DOMAIN, "bob") == []
    assert await store.read_contexts(TENANT, DOMAIN, "nobody") == []


async def test_contexts_are_dropped_by_their_ids(store: TripletStore) -> None:
    await save_contexts(store, "ada", context(1), context(2))
    await save_contexts(store, "bob", context(1))
    await save_contexts(store, "ada", context(3), dropped=["ctx_1", "ctx_9"])
    assert await store.read_contexts(TENANT, DOMAIN, "ada") == [context(3), context(2)]
    assert await store.read_contexts(TENANT, DOMAIN, "bob") == [context(1)]


async def test_a_context_moves_the_persons_revision_and_a_vector_their_time(
    store: TripletStore,
) -> None:
    before = await store.read_profile(TENANT, DOMAIN, "ada")
    await save_contexts(store, "ada", context(1))
    told = await store.read_profile(TENANT, DOMAIN, "ada")
    await save_contexts(store, "ada", context(2), vector=[0.0, 1.0, 0.0, 0.0])
    changed = await store.read_profile(TENANT, DOMAIN, "ada")
    assert before is not None
    assert told is not None
    assert changed is not None
    assert [one.revision for one in (before, told, changed)] == [1, 2, 3]
    assert before.update_time == told.update_time < changed.update_time
    assert told.profile.encoder == before.profile.encoder
    assert changed.profile.vector is not None
    assert changed.profile.vector.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert changed.profile.encoder == "other"
    assert users_in(await changes_since(store, 1)) == ["ada"]


async def test_a_unit_tells_the_revision_of_a_person(store: TripletStore) -> None:
    await save_contexts(store, "bob", context(1))
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert unit.revision == 3
        assert await unit.read_revision("ada") == 1
        assert await unit.read_revision("bob") == 2
        assert await unit.read_revision("nobody") is None


async def test_whoever_is_replaced_loses_their_contexts(store: TripletStore) -> None:
    await save_contexts(store, "ada", context(1))
    await save_contexts(store, "bob", context(2))
    await add_users(store, ["ada"])
    assert await store.read_contexts(TENANT, DOMAIN, "ada") == []
    assert await store.read_contexts(TENANT, DOMAIN, "bob") == [context(2)]


async def test_where_values_come_from_is_read_as_it_was_saved(store: TripletStore) -> None:
    provenance = {"age": Provenance("fields", MOMENT), "city": Provenance("context", MOMENT)}
    profile = dataclasses.replace(profile_of("ada"), provenance=provenance)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile, [30.0])
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    assert stored.profile.provenance == provenance


async def test_a_person_is_read_in_every_domain_of_the_tenant_by_name(store: TripletStore) -> None:
    for tenant, domain in ((TENANT, "art"), (TENANT, "hiring"), ("globex", "art")):
        await store.create_domain(tenant, schema_of(domain))
    await add_users(store, ["ada"], "hiring")
    await add_users(store, ["ada"], "art", "globex")
    found = await store.read_profiles(TENANT, "ada")
    assert [stored.schema.domain for stored in found] == [DOMAIN, "hiring"]
    assert [stored.profile.user_id for stored in found] == ["ada", "ada"]
    assert await store.read_profiles(TENANT, "nobody") == []


def drafts_of(seed: int, count: int = 60) -> list[OutcomeDraft]:
    """What people say of each other within five seconds."""
    chance = random.Random(seed)
    pairs = [chance.sample(USERS, 2) for _ in range(count)]
    return [
        OutcomeDraft(
            seeker_id=seeker,
            candidate_id=candidate,
            label=chance.choice([*LEVELS, RETRACTED]),
            weight=1.0,
            occurred_at=MOMENT + datetime.timedelta(seconds=chance.randrange(5)),
        )
        for seeker, candidate in pairs
    ]


async def report(store: TripletStore, drafts: list[OutcomeDraft]) -> None:
    """Reports outcomes in one unit."""
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await report_outcomes(unit, drafts, check_drafts(drafts, MOMENT))


async def erase(store: TripletStore, user_id: str, domain: str = DOMAIN) -> Erasure:
    """Erases somebody in one unit."""
    async with store.open_domain(TENANT, domain) as unit:
        return await erase_user(unit, user_id)


async def triplets_of(store: TripletStore) -> set[tuple[str, str, str]]:
    """Formed triplets by ids; as many must be counted."""
    arrays = await store.read_arrays(TENANT, DOMAIN, await revision_of(store))
    formed = form(arrays)
    counts = await store.read_counts(TENANT, DOMAIN)
    assert counts is not None
    assert counts.triplets_count == len(formed.indices)
    ids, candidates = arrays.user_ids, arrays.candidates
    return {(ids[a], ids[candidates[p]], ids[candidates[n]]) for a, p, n in formed.indices}


def form(arrays: DomainArrays) -> Triplets:
    """The triplets of a domain."""
    return form_triplets(
        arrays.seekers, arrays.candidates, arrays.levels, arrays.weights, hash_ids(arrays.user_ids)
    )


@pytest.mark.parametrize("seed", range(4))
async def test_after_an_erasure_the_domain_is_as_if_it_had_never_known_the_person(
    store: TripletStore, seed: int
) -> None:
    drafts = drafts_of(seed)
    await report(store, drafts)
    erasure = await erase(store, "cleo")
    twin = MemoryTripletStore()
    await twin.create_domain(TENANT, SCHEMA)
    await add_users(twin, [user_id for user_id in USERS if user_id != "cleo"])
    await report(twin, [d for d in drafts if "cleo" not in (d.seeker_id, d.candidate_id)])
    assert await triplets_of(store) == await triplets_of(twin)
    assert erasure.outcomes_count > 0
    left = tallies_in(await changes_since(store, -1))
    expected = tallies_in(await changes_since(twin, -1))
    assert {n - (n > 2): counts for n, counts in left.items()} == expected


async def test_an_erased_person_is_gone(store: TripletStore) -> None:
    await report(store, drafts_of(1))
    await save_contexts(store, "cleo", context(1))
    await erase(store, "cleo")
    assert await store.read_profile(TENANT, DOMAIN, "cleo") is None
    assert await store.read_contexts(TENANT, DOMAIN, "cleo") == []
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.find_numbers(USERS) == {"ada": 0, "bob": 1, "dan": 3, "eve": 4, "finn": 5}
        assert await unit.words_about(2) == {}
        assert await unit.standing_words([Pair(0, 2), Pair(2, 0)]) == {}
    with pytest.raises(UserNotFoundError):
        await erase(store, "cleo")


async def test_arrays_keep_the_place_of_an_erased_person_empty(store: TripletStore) -> None:
    await erase(store, "bob")
    arrays = await store.read_arrays(TENANT, DOMAIN, 2)
    assert arrays.user_ids == ["ada", "", "cleo", "dan", "eve", "finn"]
    assert arrays.vectors[:3].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(arrays.columns[:3], [[30], [np.nan], [30]])
    assert [arrays.vectors.dtype, arrays.columns.dtype] == ["f2", "f4"]
    assert arrays.read_revision == 2


async def test_someone_who_comes_in_under_an_erased_id_is_another_person(
    store: TripletStore,
) -> None:
    await report(store, drafts_of(1))
    await erase(store, "finn")  # the last number, too, stays taken
    await add_users(store, ["finn", "gus"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.find_numbers(["finn", "gus"]) == {"finn": 6, "gus": 7}
        assert sum((await unit.tallies([6]))[6].effects) == 0


async def test_followers_hear_of_an_erasure_before_those_who_came_since(
    store: TripletStore,
) -> None:
    await erase(store, "bob")
    assert removals_in(await changes_since(store, 1)) == [1]
    assert removals_in(await changes_since(store, 2)) == []
    await add_users(store, ["bob"])
    changes = await changes_since(store, 1)
    assert changes[0].removals is not None
    assert users_in(changes) == ["bob"]
    assert changes[-1].revision == 3
    from_the_start = await changes_since(store, -1)
    assert users_in(from_the_start) == ["ada", "cleo", "dan", "eve", "finn", "bob"]


async def test_an_erasure_touches_no_other_domain(store: TripletStore) -> None:
    await store.create_domain(TENANT, schema_of("hiring"))
    await add_users(store, USERS, "hiring")
    await report(store, drafts_of(2))
    before = await triplets_of(store)
    await erase(store, "ada", "hiring")
    assert await triplets_of(store) == before
    assert await store.read_profile(TENANT, DOMAIN, "ada") is not None


async def snapshot(store: TripletStore) -> str:
    """Takes a snapshot and returns its digest."""
    writer = SafetensorsSnapshots(memory_artifacts())
    taken = await create_snapshot(store, writer, TENANT, DOMAIN, await revision_of(store))
    return taken.digest


async def test_an_erasure_names_the_snapshots_that_hold_the_person(store: TripletStore) -> None:
    first = await snapshot(store)
    assert await snapshot(store) == first
    await add_users(store, ["gus"])
    second = await snapshot(store)
    assert (await erase(store, "ada")).snapshot_digests == [second, first]
    third = await snapshot(store)
    assert (await erase(store, "gus")).snapshot_digests == [third, second]


class Interrupted(SafetensorsSnapshots):
    """Someone is erased while the first snapshot is written."""

    def __init__(self, store: TripletStore) -> None:
        super().__init__(memory_artifacts())
        self._store = store
        self.seen: list[list[str]] = []

    async def write(self, arrays: DomainArrays, triplets: Triplets) -> str:
        if not self.seen:
            await erase(self._store, "ada")
        self.seen.append(arrays.user_ids)
        return await super().write(arrays, triplets)


async def test_a_snapshot_that_an_erasure_overtakes_is_taken_anew(store: TripletStore) -> None:
    writer = Interrupted(store)
    taken = await create_snapshot(store, writer, TENANT, DOMAIN, 1)
    assert [user_ids[0] for user_ids in writer.seen] == ["ada", ""]
    assert taken.users_count == 5
    (overtaken,) = await store.list_outdated_snapshots()
    assert (await erase(store, "bob")).snapshot_digests == [taken.digest, overtaken]


async def test_many_are_saved_at_once_known_ones_under_their_numbers(store: TripletStore) -> None:
    await save_contexts(store, "cleo", context(1))
    people = ["gus", "cleo", "hal", "ada"]
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profiles([(profile_of(user_id), [31.0]) for user_id in people])
        await unit.save_profiles([(profile_of("ivy", {}, None), [np.nan])])
        assert await unit.find_numbers([*people, "ivy"]) == {
            "ada": 0,
            "cleo": 2,
            "gus": 6,
            "hal": 7,
            "ivy": 8,
        }
        assert await unit.tallies([8]) == {8: Tally()}
    assert await store.read_contexts(TENANT, DOMAIN, "cleo") == []
    assert users_in(await changes_since(store, 2)) == ["ada", "cleo", "gus", "hal", "ivy"]
