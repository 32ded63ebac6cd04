"""Pages of explored matches as snapshots take them: what is logged, and what came of it by then."""

import dataclasses
import datetime
from collections.abc import AsyncIterator, Sequence

import pytest

from services.triplets.core import pages as limits
from services.triplets.core.exposure import Exploration, Exposure
from services.triplets.core.outcome import RETRACTED_LEVEL, Outcome, Pair, Word
from services.triplets.core.pages import Pages
from services.triplets.postgres import MIGRATIONS, PostgresTripletStore
from services.triplets.postgres import store as store_module
from services.triplets.postgres.exposures import PostgresExposureStore
from tests.support.domains import DOMAIN, MOMENT, SCHEMA, TENANT, add_users, revision_of
from tests.support.infrastructure import Servers

SHOWN = Exposure(
    match_id="m1",
    tenant=TENANT,
    domain=DOMAIN,
    head="h1",
    tier="tenant",
    run_id="tr_1",
    match_time=MOMENT,
    seeker=0,
    first_rank=1,
    candidates=[2, 1],
    scores=[0.5, 0.75],
    exploration=Exploration(
        share=0.5, explored=True, ranker_ranks=[2, 1], propensities=[0.25, 0.25]
    ),
)


class Kept:
    """A domain of three people, and its exposures."""

    def __init__(self, store: PostgresTripletStore, exposures: PostgresExposureStore) -> None:
        self.store = store
        self.exposures = exposures

    async def say(self, candidate: int, level: int, match_id: str = "", minute: int = 0) -> None:
        """The first person's word about somebody."""
        word = Word(MOMENT + datetime.timedelta(minutes=minute), level, 1.0)
        async with self.store.open_domain(TENANT, DOMAIN) as unit:
            outcome = Outcome(Pair(0, candidate), "label", word, match_id)
            await unit.append_outcomes([outcome])

    async def pages(self, revision: int | None = None) -> Pages:
        """What a snapshot reads."""
        at = await revision_of(self.store) if revision is None else revision
        return (await self.store.read_arrays(TENANT, DOMAIN, at)).pages

    async def levels(self, revision: int | None = None) -> Sequence[int]:
        """What came of each slot."""
        found: Sequence[int] = (await self.pages(revision)).levels.tolist()
        return found


@pytest.fixture
async def kept(servers: Servers) -> AsyncIterator[Kept]:
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        store = PostgresTripletStore(database)
        await store.create_domain(TENANT, SCHEMA)
        await add_users(store, ["ada", "bob", "cleo"])
        yield Kept(store, PostgresExposureStore(database))


async def test_a_domain_that_does_not_explore_has_no_pages(kept: Kept) -> None:
    await kept.exposures.record([dataclasses.replace(SHOWN, exploration=None)])
    assert (await kept.pages()).seekers.tolist() == []


async def test_pages_are_in_the_order_of_their_matches(kept: Kept) -> None:
    assert SHOWN.exploration is not None
    plain = dataclasses.replace(
        SHOWN.exploration, explored=False, ranker_ranks=[1], propensities=[1.0]
    )
    later = dataclasses.replace(
        SHOWN, match_id="m2", seeker=1, candidates=[2], scores=[0.5], exploration=plain
    )
    nobody = dataclasses.replace(SHOWN.exploration, ranker_ranks=[], propensities=[])
    empty = dataclasses.replace(SHOWN, match_id="m3", candidates=[], scores=[], exploration=nobody)
    await kept.exposures.record([later, empty, SHOWN])
    pages = await kept.pages()
    assert pages.seekers.tolist() == [0, 1]
    assert pages.explored.tolist() == [True, False]
    assert pages.times.tolist() == [int(MOMENT.timestamp()) * 1_000_000 + 123_456] * 2
    assert pages.slot_pages.tolist() == [0, 0, 1]
    assert pages.candidates.tolist() == [2, 1, 2]
    assert pages.ranks.tolist() == [1, 2, 1]
    assert pages.propensities.tolist() == [0.25, 0.25, 1.0]
    assert pages.levels.tolist() == [-1, -1, -1]


async def test_what_came_of_a_slot_is_the_last_word_that_names_its_match(kept: Kept) -> None:
    await kept.exposures.record([SHOWN])
    await kept.say(1, 2)
    await kept.say(2, 3, "m9")
    assert await kept.levels() == [-1, -1]
    await kept.say(1, 2, "m1", minute=5)
    await kept.say(1, 0, "m1", minute=3)
    assert await kept.levels() == [-1, 2]
    before = await revision_of(kept.store)
    await kept.say(1, 3, "m1", minute=9)
    assert await kept.levels() == [-1, 3]
    assert await kept.levels(before) == [-1, 2]
    await kept.say(1, RETRACTED_LEVEL, "m1", minute=10)
    assert await kept.levels() == [-1, RETRACTED_LEVEL]


async def test_whoever_is_erased_takes_their_outcomes_along(kept: Kept) -> None:
    await kept.exposures.record([SHOWN])
    await kept.say(1, 2, "m1")
    async with kept.store.open_domain(TENANT, DOMAIN) as unit:
        await unit.erase_user(1, b"bob")
    assert await kept.levels() == [-1, -1]


async def test_the_newest_pages_go_first(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [dataclasses.replace(SHOWN, match_id=f"m{i}", seeker=i % 3) for i in range(5)]
    await kept.exposures.record(pages)
    assert (await kept.pages()).seekers.tolist() == [0, 1, 2, 0, 1]
    monkeypatch.setattr(store_module, "PAGES_MAX", 3)
    assert (await kept.pages()).seekers.tolist() == [2, 0, 1]
    monkeypatch.setattr(store_module, "SLOTS_MAX", 5)
    assert (await kept.pages()).seekers.tolist() == [0, 1]
    assert limits.SLOTS_MAX >= limits.PAGES_MAX
