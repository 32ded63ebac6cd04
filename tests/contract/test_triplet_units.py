"""Units of work of every triplet store: whole or not at all, and the latest word stands."""

import asyncio
import datetime
import itertools

import pytest

from services.triplets.core.outcome import Outcome, Pair, Word
from services.triplets.core.ports import DomainUnit, TripletStore
from services.triplets.core.tally import Tally
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
    profile_of,
    revision_of,
    tallies_in,
    users_in,
)
from tests.support.faults import DeliberateError, act_and_fail

EARLIER = MOMENT - datetime.timedelta(microseconds=1)


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with one domain and two people."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    await add_users(triplet_store, ["ada", "bob"])
    return triplet_store


async def change_everything(unit: DomainUnit) -> None:
    await unit.save_profile(profile_of("ada", {"age": 99.0}), [99.0])
    await unit.save_profile(profile_of("cleo"), [30.0])
    await unit.append_outcomes([Outcome(Pair(0, 1), "accepted", Word(MOMENT, 2, 1.0))])
    await unit.save_tallies({0: Tally((0, 0, 1, 0))}, 5, 0)
    await unit.save_schema(GROWN_SCHEMA)
    await unit.save_trained_count(4)


async def assert_untouched(store: TripletStore) -> None:
    counts = await store.read_counts(TENANT, DOMAIN)
    assert counts is not None
    assert (counts.revision, counts.triplets_count, counts.trained_triplets_count) == (1, 0, 0)
    assert await store.read_schema(TENANT, DOMAIN) == SCHEMA
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    assert stored.profile.values["age"] == 30.0
    changes = await changes_since(store, -1)
    assert users_in(changes) == ["ada", "bob"]
    assert tallies_in(changes) == {0: (0, 0, 0, 0), 1: (0, 0, 0, 0)}
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.standing_words([Pair(0, 1)]) == {}
    assert len((await store.read_arrays(TENANT, DOMAIN, 99)).seekers) == 0


async def test_a_unit_that_fails_leaves_nothing(store: TripletStore) -> None:
    with pytest.raises(DeliberateError):
        await act_and_fail(store.open_domain(TENANT, DOMAIN), change_everything)
    await assert_untouched(store)


async def test_a_unit_that_is_cancelled_leaves_nothing_and_frees_the_domain(
    store: TripletStore,
) -> None:
    changed = asyncio.Event()

    async def work() -> None:
        async with store.open_domain(TENANT, DOMAIN) as unit:
            await change_everything(unit)
            changed.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await changed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_untouched(store)


async def test_a_number_that_a_failed_unit_gave_is_given_again(store: TripletStore) -> None:
    with pytest.raises(DeliberateError):
        await act_and_fail(store.open_domain(TENANT, DOMAIN), change_everything)
    await add_users(store, ["dan"])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.find_numbers(["cleo", "dan"]) == {"dan": 2}


async def test_nobody_outside_sees_a_unit_before_it_ends(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await change_everything(unit)
        assert await revision_of(store) == 1
        assert await store.read_profile(TENANT, DOMAIN, "cleo") is None
        assert users_in(await changes_since(store, -1)) == ["ada", "bob"]
    assert await revision_of(store) == 2
    assert await store.read_profile(TENANT, DOMAIN, "cleo") is not None


async def test_a_unit_sees_its_own_changes(store: TripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await change_everything(unit)
        assert await unit.find_numbers(["cleo"]) == {"cleo": 2}
        assert await unit.standing_words([Pair(0, 1)]) == {Pair(0, 1): Word(MOMENT, 2, 1.0)}
        assert await unit.tallies([0, 2]) == {0: Tally((0, 0, 1, 0)), 2: Tally()}


async def test_units_of_one_domain_run_one_after_another(store: TripletStore) -> None:
    seen: list[str] = []
    revisions: list[int] = []

    async def work(index: int) -> None:
        async with store.open_domain(TENANT, DOMAIN) as unit:
            seen.append("in")
            revisions.append(unit.counts.revision)
            await unit.save_profile(profile_of(f"user-{index}"), [30.0])
            await asyncio.sleep(0.005)
            seen.append("out")

    await asyncio.gather(*(work(index) for index in range(8)))
    assert seen == ["in", "out"] * 8
    assert revisions == list(range(1, 9))


async def test_the_word_that_stands_is_the_latest_then_the_strongest_whatever_came_first(
    store: TripletStore,
) -> None:
    words = [
        Word(EARLIER, 3, 100.0),
        Word(MOMENT, 1, 100.0),
        Word(MOMENT, 2, 0.5),
        Word(MOMENT, 2, 0.75),
    ]
    orders = list(itertools.permutations(words))
    pairs = [Pair(0, candidate) for candidate in range(10, 10 + len(orders))]
    # Word by word, each in a unit of its own: the k-th words of all orders arrive together.
    for arrivals in zip(*orders, strict=True):
        await add_outcomes(store, list(zip(pairs, arrivals, strict=True)))
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.standing_words(pairs) == dict.fromkeys(pairs, words[-1])
    arrays = await store.read_arrays(TENANT, DOMAIN, await revision_of(store))
    assert set(zip(arrays.levels.tolist(), arrays.weights.tolist(), strict=True)) == {(2, 0.75)}


async def test_words_of_one_unit_compete_as_words_of_several_do(store: TripletStore) -> None:
    words = [Word(MOMENT, 0, 1.0), Word(MOMENT, 3, 1.0), Word(EARLIER, 3, 9.0)]
    await add_outcomes(store, [(Pair(0, 1), word) for word in words])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.standing_words([Pair(0, 1)]) == {Pair(0, 1): Word(MOMENT, 3, 1.0)}


@pytest.mark.parametrize("moment", ENDS_OF_TIME, ids=["first", "last"])
async def test_a_word_from_either_end_of_time_stands_as_it_was_given(
    store: TripletStore, moment: datetime.datetime
) -> None:
    word = Word(moment, 2, 1.0)
    await add_outcomes(store, [(Pair(0, 1), word)])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.standing_words([Pair(0, 1)]) == {Pair(0, 1): word}


async def test_a_pair_has_a_direction_and_only_pairs_with_words_have_one_standing(
    store: TripletStore,
) -> None:
    await add_outcomes(store, [(Pair(0, 1), Word(MOMENT, 2, 1.0))])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert await unit.standing_words([]) == {}
        assert set(await unit.standing_words([Pair(0, 1), Pair(1, 0)])) == {Pair(0, 1)}
