"""Outcomes in every store: corrected, retracted, late or repeated, the counts stay exact."""

import datetime
import random
from collections.abc import Sequence
from typing import Any

import pytest

from services.chassis.database import EVERYONE
from services.triplets.core.label import Label
from services.triplets.core.outcome import LEVELS, RETRACTED, RETRACTED_LEVEL, Outcome, Pair, Word
from services.triplets.core.ports import TripletStore
from services.triplets.core.report_outcomes import (
    OutcomeDraft,
    ReportResult,
    check_drafts,
    report_outcomes,
)
from services.triplets.core.tally import Tally
from services.triplets.core.triplet import form_triplets, hash_ids
from services.triplets.memory import MemoryTripletStore
from services.triplets.postgres import PostgresTripletStore
from tests.support.domains import (
    DOMAIN,
    MOMENT,
    SCHEMA,
    TENANT,
    add_outcomes,
    add_users,
    revision_of,
)

USERS = [f"user-{index:02}" for index in range(12)]
LIKED = Label(name="super_like", level=LEVELS["converted"], weight=2.0)


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with one domain and its people."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    await add_users(triplet_store, USERS)
    return triplet_store


def draft(label: str, seconds: int = 0, **content: Any) -> OutcomeDraft:
    """What user 0 says of user 1."""
    moment = MOMENT + datetime.timedelta(seconds=seconds)
    whole = {"seeker_id": USERS[0], "candidate_id": USERS[1], "weight": None} | content
    return OutcomeDraft(label=label, occurred_at=moment, **whole)


def any_draft(chance: random.Random) -> OutcomeDraft:
    """One of the words that a few seekers say within five seconds."""
    return draft(
        chance.choice([*LEVELS, RETRACTED, RETRACTED]),
        chance.randrange(5),
        seeker_id=chance.choice(USERS[:3]),
        candidate_id=chance.choice(USERS[3:]),
        weight=chance.choice([0.5, 1.0]),
    )


async def report(
    store: TripletStore, drafts: Sequence[OutcomeDraft], *, partial: bool = False
) -> ReportResult:
    """Reports a batch."""
    sieve = check_drafts(drafts, MOMENT, partial=partial)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        return await report_outcomes(unit, drafts, sieve)


async def state_of(store: TripletStore) -> tuple[int, dict[int, Tally], list[tuple[float, ...]]]:
    """Triplets counted, tallies, and standing outcomes; formed triplets must agree."""
    arrays = await store.read_arrays(TENANT, DOMAIN, await revision_of(store))
    triplets = form_triplets(
        arrays.seekers, arrays.candidates, arrays.levels, arrays.weights, hash_ids(arrays.user_ids)
    )
    counts = await store.read_counts(TENANT, DOMAIN)
    assert counts is not None
    assert counts.triplets_count == len(triplets.indices)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        tallies = dict(await unit.tallies(range(len(USERS))))
    columns = (arrays.seekers, arrays.candidates, arrays.levels, arrays.weights, arrays.times)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return counts.triplets_count, tallies, rows


async def test_the_triplets_counted_are_the_triplets_formed(store: TripletStore) -> None:
    chance = random.Random(20)
    most = 0
    for _ in range(12):
        await report(store, [any_draft(chance) for _ in range(25)])
        most = max(most, (await state_of(store))[0])
    assert most > 20


async def test_batches_in_any_order_and_twice_end_alike(store: TripletStore) -> None:
    chance = random.Random(7)
    batches = [[any_draft(chance) for _ in range(10)] for _ in range(6)]
    for batch in batches:
        await report(store, batch)
    twin = MemoryTripletStore()
    await twin.create_domain(TENANT, SCHEMA)
    await add_users(twin, USERS)
    shuffled = [chance.sample(batch, len(batch)) for batch in batches * 2]
    chance.shuffle(shuffled)
    for batch in shuffled:
        await report(twin, batch)
    assert await state_of(store) == await state_of(twin)


async def test_a_retracted_pair_has_no_outcome(store: TripletStore) -> None:
    await report(store, [draft("accepted"), draft("rejected", candidate_id=USERS[2])])
    assert (await state_of(store))[0] == 1
    await report(store, [draft(RETRACTED, 1)])
    count, tallies, rows = await state_of(store)
    assert (count, len(rows)) == (0, 1)
    assert tallies[0] == Tally((1, 0, 0, 0))
    assert tallies[1] == Tally()


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_retraction_stands_against_what_is_as_old_or_older_and_comes_later(
    store: TripletStore, seconds: int
) -> None:
    await report(store, [draft(RETRACTED, seconds)])
    await report(store, [draft("converted")])
    assert (await state_of(store))[1][0] == Tally()
    async with store.open_domain(TENANT, DOMAIN) as unit:
        words = await unit.standing_words([Pair(0, 1)])
    assert words[Pair(0, 1)].level == RETRACTED_LEVEL
    assert words[Pair(0, 1)].counted_level is None


async def test_a_word_after_a_retraction_stands_again(store: TripletStore) -> None:
    await report(store, [draft("accepted"), draft(RETRACTED, 1), draft("rejected", 2)])
    assert (await state_of(store))[1][0] == Tally((1, 0, 0, 0))


async def test_arrays_as_of_before_a_retraction_hold_the_word(store: TripletStore) -> None:
    before = await add_outcomes(store, [(Pair(0, 1), Word(MOMENT, 2, 1.0))])
    async with store.open_domain(TENANT, DOMAIN) as unit:
        word = Word(MOMENT, RETRACTED_LEVEL, 1.0)
        await unit.append_outcomes([Outcome(Pair(0, 1), RETRACTED, word)])
    assert (await store.read_arrays(TENANT, DOMAIN, before)).levels.tolist() == [2]
    assert (await store.read_arrays(TENANT, DOMAIN, before + 1)).levels.tolist() == []


async def test_labels_are_read_as_they_were_saved_and_leave_the_revision_alone(
    store: TripletStore,
) -> None:
    assert await store.read_labels(TENANT, DOMAIN) == {}
    assert await store.read_labels(TENANT, "hiring") is None
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert unit.labels == {}
        await unit.save_labels({"super_like": LIKED})
        assert unit.labels == {"super_like": LIKED}
    assert await store.read_labels(TENANT, DOMAIN) == {"super_like": LIKED}
    assert await revision_of(store) == 1


async def test_a_registered_label_has_its_level_and_weight_and_is_used_from_then_on(
    store: TripletStore,
) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_labels({"super_like": LIKED})
    await report(store, [draft("super_like"), draft("super_like", candidate_id=USERS[2], weight=3)])
    _, tallies, rows = await state_of(store)
    assert tallies[0] == Tally((0, 0, 0, 2))
    assert [row[3] for row in rows] == [2.0, 3.0]
    labels = await store.read_labels(TENANT, DOMAIN)
    assert labels is not None
    assert labels["super_like"].used


async def test_the_good_part_of_a_partial_batch_is_recorded(store: TripletStore) -> None:
    drafts = [
        draft("accepted", seeker_id="nobody"),
        draft("accepted"),
        draft("adored"),
        draft("rejected", candidate_id=USERS[2]),
        draft("accepted", weight=0.0),
    ]
    result = await report(store, drafts, partial=True)
    assert (result.accepted_count, result.triplets_generated_count) == (2, 1)
    assert [error.index for error in result.errors] == [0, 2, 4]
    assert (await state_of(store))[0] == 1


async def test_a_partial_batch_without_a_good_item_changes_nothing(store: TripletStore) -> None:
    result = await report(store, [draft("adored")], partial=True)
    assert (result.accepted_count, len(result.errors)) == (0, 1)
    assert await revision_of(store) == 1


async def test_the_match_of_an_outcome_is_kept_with_it(store: TripletStore) -> None:
    await report(store, [draft("accepted", match_id="m_1"), draft("rejected", 1)])
    assert await match_ids(store) == ["m_1", ""]


async def match_ids(store: TripletStore) -> list[str]:
    """Of all outcomes, in their order; no port reads them yet."""
    if isinstance(store, PostgresTripletStore):
        rows = await store._database.of(EVERYONE).fetch(
            "select match_id from outcomes order by outcome_id"
        )
        return [row["match_id"] for row in rows]
    assert isinstance(store, MemoryTripletStore)
    return [outcome.match_id for _, outcome in store._domains[TENANT, DOMAIN].outcomes]
