"""A small domain and short ways to fill it, over the triplet store's port."""

import datetime
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from services.triplets.core.outcome import LEVELS, Outcome, Pair, Word
from services.triplets.core.ports import Change, TripletStore
from services.triplets.core.profile import Profile, Value, column_values
from services.triplets.core.schema import CALLER, Field, Schema
from services.triplets.memory import MemoryTripletStore
from services.triplets.postgres import MIGRATIONS, PostgresTripletStore
from tests.support.infrastructure import Servers

TENANT = "acme"
DOMAIN = "dating"
MOMENT = datetime.datetime(2026, 5, 17, 8, 0, 0, 123_456, tzinfo=datetime.UTC)
ENDS_OF_TIME = (
    datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC),
)

AGE = Field(name="age", kind="hard", type="integer")
CITY = Field(name="city", kind="hard", type="string")
ABOUT = Field(name="about", kind="soft", type="string")
SMOKES = Field(name="smokes", kind="hard", type="boolean")
SCHEMA = Schema(domain=DOMAIN, number=1, fields=(AGE, CITY, ABOUT), encoder=CALLER, dim=4)
GROWN_SCHEMA = Schema(
    domain=DOMAIN, number=2, fields=(AGE, CITY, ABOUT, SMOKES), encoder=CALLER, dim=4
)

_LABELS = {level: label for label, level in LEVELS.items()}


@asynccontextmanager
async def open_triplet_store(kind: str, servers: Servers) -> AsyncIterator[TripletStore]:
    """An empty store in memory or in PostgreSQL."""
    if kind == "memory":
        yield MemoryTripletStore()
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield PostgresTripletStore(database)


def schema_of(domain: str) -> Schema:
    """The schema under another domain's name."""
    return Schema(domain=domain, number=1, fields=SCHEMA.fields, encoder=CALLER, dim=4)


def profile_of(
    user_id: str,
    values: Mapping[str, Value] | None = None,
    vector: Sequence[float] | None = (1.0, 0.0, 0.0, 0.0),
) -> Profile:
    """A person."""
    return Profile(
        user_id=user_id,
        context=f"{user_id} likes tea",
        values={"age": 30.0, "city": "Basel"} if values is None else values,
        vector=None if vector is None else np.array(vector, np.float16),
        encoder="" if vector is None else CALLER,
    )


async def add_users(
    store: TripletStore, user_ids: Iterable[str], domain: str = DOMAIN, tenant: str = TENANT
) -> None:
    """Saves people in one unit."""
    async with store.open_domain(tenant, domain) as unit:
        for user_id in user_ids:
            profile = profile_of(user_id)
            await unit.save_profile(profile, column_values(unit.schema, profile.values))


async def add_outcomes(
    store: TripletStore, outcomes: Sequence[tuple[Pair, Word]], domain: str = DOMAIN
) -> int:
    """Records words in one unit, without touching tallies, and returns the new revision."""
    async with store.open_domain(TENANT, domain) as unit:
        await unit.append_outcomes(
            [Outcome(pair, _LABELS[word.level], word) for pair, word in outcomes]
        )
    counts = await store.read_counts(TENANT, domain)
    assert counts is not None
    return counts.revision


async def revision_of(store: TripletStore, domain: str = DOMAIN) -> int:
    """The domain's revision."""
    counts = await store.read_counts(TENANT, domain)
    assert counts is not None
    return counts.revision


async def changes_since(store: TripletStore, revision: int) -> list[Change]:
    """All batches of changes."""
    return [change async for change in store.read_changes(TENANT, DOMAIN, revision)]


def removals_in(changes: Iterable[Change]) -> list[int]:
    """Whose numbers are said to be erased, in order."""
    batches = (change.removals for change in changes if change.removals is not None)
    return [int(number) for batch in batches for number in batch]


def users_in(changes: Iterable[Change]) -> list[str]:
    """Whose profiles are sent, in order."""
    batches = (change.profiles for change in changes if change.profiles is not None)
    return list(itertools.chain.from_iterable(batch.user_ids for batch in batches))


def tallies_in(changes: Iterable[Change]) -> dict[int, tuple[int, ...]]:
    """Whose tallies are sent, by number."""
    return {
        int(number): tuple(counts.tolist())
        for change in changes
        if change.tallies is not None
        for number, counts in zip(change.tallies.numbers, change.tallies.counts, strict=True)
    }
