"""What readers of a triplet store see: changes since a revision, and a whole domain as of one."""

import asyncio
import datetime
import random
import threading
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from services.chassis.artifacts import memory_artifacts
from services.triplets import memory
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.create_snapshot import Snapshot, create_snapshot
from services.triplets.core.outcome import RETRACTED_LEVEL, Outcome, Pair, Word
from services.triplets.core.ports import Change, DomainArrays, TripletStore
from services.triplets.core.tally import Tally
from services.triplets.memory import MemoryTripletStore
from services.triplets.postgres import store as postgres
from services.triplets.postgres.rows import read_outcomes
from tests.support.domains import (
    DOMAIN,
    ENDS_OF_TIME,
    GROWN_SCHEMA,
    MOMENT,
    SCHEMA,
    TENANT,
    add_outcomes,
    add_users,
    changes_since,
    open_triplet_store,
    profile_of,
    revision_of,
    tallies_in,
    users_in,
)
from tests.support.infrastructure import Servers


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with one empty domain."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    return triplet_store


@pytest.fixture
def batches_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, so that few rows make several."""
    monkeypatch.setattr(memory, "BATCH_ROWS_MAX", 2)
    monkeypatch.setattr(postgres, "BATCH_ROWS_MAX", 2)


async def test_everyone_is_sent_to_who_knows_nothing(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile_of("ada", vector=(0.0, 0.5, 0.0, -1.0)), [30.0])
        await unit.save_profile(profile_of("bob", {}, None), [np.nan])
        await unit.save_tallies({1: Tally((1, 2, 3, 4), (0, 5, 0, 6))}, 0, 0)
    changes = await changes_since(store, -1)
    profiles = changes[0].profiles
    assert profiles is not None
    assert profiles.user_ids == ["ada", "bob"]
    assert profiles.numbers.tolist() == [0, 1]
    assert profiles.vectors.tolist() == [[0.0, 0.5, 0.0, -1.0], [0.0] * 4]
    np.testing.assert_array_equal(profiles.columns, [[30.0], [np.nan]])
    assert profiles.strings == {"city": ["Basel", ""]}
    assert tallies_in(changes) == {0: (0, 0, 0, 0), 1: (10, 7, 11, 6)}
    assert changes[-1].revision == 1
    assert all(change.schema == SCHEMA for change in changes)


async def test_arrays_of_changes_have_the_types_that_travel(store: TripletStore) -> None:
    await add_users(store, ["ada"])
    first, second, _ = await changes_since(store, -1)
    assert first.profiles is not None
    assert second.tallies is not None
    profiles, tallies = first.profiles, second.tallies
    arrays = (profiles.numbers, profiles.vectors, profiles.columns, tallies.numbers, tallies.counts)
    assert [array.dtype for array in arrays] == ["<i4", "<f2", "<f8", "<i4", "<i4"]
    assert [array.shape for array in arrays] == [(1,), (1, 4), (1, 1), (1,), (1, 4)]


async def test_only_who_changed_after_a_revision_is_sent(store: TripletStore) -> None:
    await add_users(store, ["ada", "bob", "cleo"])
    await add_users(store, ["bob", "dan"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_tallies({0: Tally((1, 0, 0, 0))}, 0, 0)
    since_first = await changes_since(store, 1)
    assert users_in(since_first) == ["bob", "dan"]
    assert tallies_in(since_first) == {0: (1, 0, 0, 0), 3: (0, 0, 0, 0)}
    since_second = await changes_since(store, 2)
    assert users_in(since_second) == []
    assert tallies_in(since_second) == {0: (1, 0, 0, 0)}


async def test_who_knows_everything_hears_the_revision_alone(store: TripletStore) -> None:
    await add_users(store, ["ada"])
    (only,) = await changes_since(store, 1)
    assert (only.revision, only.profiles, only.tallies) == (1, None, None)


@pytest.mark.usefixtures("batches_of_two")
async def test_pairs_are_sent_with_what_stands_of_them_and_since_when(
    store: TripletStore,
) -> None:
    await add_users(store, ["ada", "bob", "cleo"])
    await add_outcomes(store, [(Pair(0, n), Word(MOMENT, 0, 1.0)) for n in (1, 2)])
    assert pairs_in(await changes_since(store, 1)) == {(0, 1): 1, (0, 2): 1}
    retraction = Outcome(Pair(0, 2), "retracted", Word(MOMENT, RETRACTED_LEVEL, 1.0))
    later = MOMENT + datetime.timedelta(microseconds=1)
    yes = Outcome(Pair(1, 0), "accepted", Word(later, 2, 1.0))
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.append_outcomes([yes, retraction])
    changes = await changes_since(store, 2)
    assert pairs_in(changes) == {(0, 2): 0, (1, 0): 2}
    times = [time for change in changes if change.pairs for time in change.pairs.times.tolist()]
    seconds = int(MOMENT.replace(microsecond=0).timestamp())
    assert sorted(times) == [seconds * 1_000_000 + MOMENT.microsecond + n for n in (0, 1)]
    everything = await changes_since(store, -1)
    assert pairs_in(everything) == {(0, 1): 1, (0, 2): 0, (1, 0): 2}
    assert sum(change.pairs is not None for change in everything) == 2


def pairs_in(changes: list[Change]) -> dict[tuple[int, int], int]:
    """Seeker and candidate, and what stands of them."""
    batches = [change.pairs for change in changes if change.pairs is not None]
    rows = [zip(b.numbers.tolist(), b.standing.tolist(), strict=True) for b in batches]
    return {(s, c): stand for batch in rows for (s, c), stand in batch}


@pytest.mark.usefixtures("batches_of_two")
async def test_only_the_last_batch_carries_the_new_revision(store: TripletStore) -> None:
    await add_users(store, ["ada"])
    await add_users(store, ["bob", "cleo", "dan", "eve", "finn"])
    changes = await changes_since(store, 1)
    assert users_in(changes) == ["bob", "cleo", "dan", "eve", "finn"]
    assert sorted(tallies_in(changes)) == [1, 2, 3, 4, 5]
    assert sum(change.profiles is not None for change in changes) == 3
    assert [change.revision for change in changes] == [1] * (len(changes) - 1) + [2]
    assert (changes[-1].profiles, changes[-1].tallies) == (None, None)


@pytest.mark.usefixtures("batches_of_two")
async def test_no_batch_is_larger_than_the_limit(store: TripletStore) -> None:
    await add_users(store, ["ada", "bob", "cleo", "dan", "eve"])
    for change in await changes_since(store, -1):
        assert change.profiles is None or len(change.profiles.numbers) <= 2
        assert change.tallies is None or len(change.tallies.numbers) <= 2


async def test_a_grown_schema_sends_everyone_anew_without_values_in_new_columns(
    store: TripletStore,
) -> None:
    await add_users(store, ["ada", "bob"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_schema(GROWN_SCHEMA)
        await unit.save_profile(profile_of("bob"), [30.0, 1.0])
    changes = await changes_since(store, 1)
    assert users_in(changes) == ["ada", "bob"]
    assert sorted(tallies_in(changes)) == [0, 1]
    assert changes[0].profiles is not None
    np.testing.assert_array_equal(changes[0].profiles.columns, [[30.0, np.nan], [30.0, 1.0]])
    assert [change.schema for change in changes] == [GROWN_SCHEMA] * 3
    assert [change.revision for change in changes] == [-1, -1, 2]
    assert users_in(await changes_since(store, 2)) == []


@pytest.mark.usefixtures("batches_of_two")
async def test_a_reader_sees_one_moment_whatever_commits_meanwhile(store: TripletStore) -> None:
    await add_users(store, ["ada", "bob", "cleo"])
    changes = []
    async for change in store.read_changes(TENANT, DOMAIN, -1):
        changes.append(change)
        if len(changes) == 1:
            await add_users(store, ["dan", "cleo"])
    assert users_in(changes) == ["ada", "bob", "cleo"]
    assert sorted(tallies_in(changes)) == [0, 1, 2]
    assert changes[-1].revision == 1
    assert users_in(await changes_since(store, 1)) == ["cleo", "dan"]


@pytest.mark.usefixtures("batches_of_two")
async def test_a_reader_who_leaves_early_holds_nothing_up(store: TripletStore) -> None:
    await add_users(store, ["ada", "bob", "cleo"])
    for _ in range(20):  # more than there are connections
        async with aclosing(store.read_changes(TENANT, DOMAIN, -1)) as changes:  # type: ignore[type-var]  # a generator behind the port
            assert (await anext(changes)).profiles is not None
    await asyncio.wait_for(add_users(store, ["dan"]), 5)
    assert await revision_of(store) == 2


@pytest.mark.usefixtures("batches_of_two")
async def test_a_follower_of_racing_writers_ends_with_what_is_there(store: TripletStore) -> None:
    chance = random.Random(7)
    known: dict[str, float] = {}
    revision = -1

    async def write(index: int) -> None:
        async with store.open_domain(TENANT, DOMAIN) as unit:
            for user_id in chance.sample(range(10), 3):
                await unit.save_profile(profile_of(f"user-{user_id}"), [float(index)])

    async def follow() -> None:
        nonlocal revision
        while revision < 30:
            async for change in store.read_changes(TENANT, DOMAIN, revision):
                if change.profiles is not None:
                    ages = change.profiles.columns[:, 0].tolist()
                    known.update(zip(change.profiles.user_ids, ages, strict=True))
                assert change.revision >= revision
                revision = change.revision
            await store.wait_for_change(0.05)

    await asyncio.gather(follow(), *(write(index) for index in range(30)))
    everyone = await store.read_arrays(TENANT, DOMAIN, revision)
    assert known == dict(zip(everyone.user_ids, everyone.columns[:, 0].tolist(), strict=True))
    assert len(known) == 10


async def test_outcomes_recorded_after_the_revision_stay_out_of_the_arrays(
    store: TripletStore,
) -> None:
    await add_users(store, ["ada", "bob", "cleo"])
    later = MOMENT + datetime.timedelta(days=1)
    first = await add_outcomes(store, [(Pair(0, 1), Word(MOMENT, 2, 1.5))])
    second = await add_outcomes(
        store, [(Pair(0, 1), Word(later, 0, 1.0)), (Pair(0, 2), Word(MOMENT, 3, 1.0))]
    )
    assert rows_of(await store.read_arrays(TENANT, DOMAIN, 0)) == []
    as_of_first = await store.read_arrays(TENANT, DOMAIN, first)
    assert rows_of(as_of_first) == [(0, 1, 2, 1.5, micros(MOMENT))]
    assert rows_of(await store.read_arrays(TENANT, DOMAIN, second)) == [
        (0, 1, 0, 1.0, micros(later)),
        (0, 2, 3, 1.0, micros(MOMENT)),
    ]
    assert as_of_first.user_ids == ["ada", "bob", "cleo"]


async def test_times_are_told_in_microseconds_since_1970(store: TripletStore) -> None:
    last = datetime.datetime(1, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC)
    moments = [last.replace(year=year) for year in (1, 1969, 1970, 1999, 2000, 9998)]
    words = [(Pair(0, index), Word(moment, 0, 1.0)) for index, moment in enumerate(moments)]
    arrays = await store.read_arrays(TENANT, DOMAIN, await add_outcomes(store, words))
    assert arrays.times.tolist() == [micros(moment) for moment in moments]


@pytest.mark.parametrize("moment", ENDS_OF_TIME, ids=["first", "last"])
async def test_either_end_of_time_is_told_in_microseconds_since_1970(
    store: TripletStore, moment: datetime.datetime
) -> None:
    word = Word(moment, 0, 1.0)
    arrays = await store.read_arrays(
        TENANT, DOMAIN, await add_outcomes(store, [(Pair(0, 1), word)])
    )
    assert arrays.times.tolist() == [micros(word.occurred_at)]


async def test_arrays_are_sorted_typed_and_whole(store: TripletStore) -> None:
    await add_users(store, ["cleo", "ada", "bob"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(profile_of("dan", {}, None), [np.nan])
    pairs = [Pair(2, 0), Pair(0, 2), Pair(10, 1), Pair(0, 1)]
    revision = await add_outcomes(store, [(pair, Word(MOMENT, 1, 0.1)) for pair in pairs])
    arrays = await store.read_arrays(TENANT, DOMAIN, revision)
    assert arrays.schema == SCHEMA
    assert arrays.user_ids == ["cleo", "ada", "bob", "dan"]
    assert arrays.vectors.tolist() == [[1.0, 0.0, 0.0, 0.0]] * 3 + [[0.0] * 4]
    np.testing.assert_array_equal(arrays.columns, np.array([[30], [30], [30], [np.nan]]))
    assert [row[:2] for row in rows_of(arrays)] == sorted(pairs)
    assert arrays.weights.tolist() == np.full(4, 0.1, np.float32).tolist()
    assert types_of(arrays) == ["f2", "f4", "i4", "i4", "i1", "f4", "i8"]


async def test_an_empty_domain_gives_empty_arrays_of_the_same_types(store: TripletStore) -> None:
    arrays = await store.read_arrays(TENANT, DOMAIN, 0)
    assert (arrays.user_ids, rows_of(arrays)) == ([], [])
    assert arrays.vectors.shape == (0, 4)
    assert arrays.columns.shape == (0, 1)
    assert types_of(arrays) == ["f2", "f4", "i4", "i4", "i1", "f4", "i8"]


async def test_the_same_history_gives_the_same_snapshot_in_every_store(
    store: TripletStore,
) -> None:
    twin = MemoryTripletStore()
    await twin.create_domain(TENANT, SCHEMA)
    assert await snapshot_of_a_history(store) == await snapshot_of_a_history(twin)


async def snapshot_of_a_history(store: TripletStore) -> Snapshot:
    chance = random.Random(3)
    await add_users(store, [f"user-{index}" for index in range(20)])
    for _ in range(6):
        async with store.open_domain(TENANT, DOMAIN) as unit:
            await unit.save_profile(profile_of("user-7", {}, None), [np.nan])
            await unit.append_outcomes([outcome(chance) for _ in range(25)])
    writer = SafetensorsSnapshots(memory_artifacts())
    snapshot = await create_snapshot(store, writer, TENANT, DOMAIN, 6)
    assert snapshot.triplets_count > 50
    return snapshot


def outcome(chance: random.Random) -> Outcome:
    pair = Pair(chance.randrange(5), chance.randrange(5, 20))
    moment = MOMENT + datetime.timedelta(microseconds=chance.randrange(3))
    return Outcome(pair, "any", Word(moment, chance.randrange(4), chance.choice([0.3, 1.0])))


def micros(moment: datetime.datetime) -> int:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1)


def rows_of(arrays: DomainArrays) -> list[tuple[int, int, int, float, int]]:
    columns = (arrays.seekers, arrays.candidates, arrays.levels, arrays.weights, arrays.times)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def types_of(arrays: DomainArrays) -> list[np.dtype[np.generic]]:
    return [
        arrays.vectors.dtype,
        arrays.columns.dtype,
        arrays.seekers.dtype,
        arrays.candidates.dtype,
        arrays.levels.dtype,
        arrays.weights.dtype,
        arrays.times.dtype,
    ]


async def test_a_domain_is_joined_beside_the_loop_that_others_wait_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def read(content: memoryview) -> Any:
        threads.append(threading.current_thread())
        return read_outcomes(content)

    monkeypatch.setattr(postgres, "read_outcomes", read)
    async with open_triplet_store("postgres", servers) as store:
        await store.create_domain(TENANT, SCHEMA)
        await store.read_arrays(TENANT, DOMAIN, 0)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
