"""The triplet store's rules: they hold of what use cases leave behind, each sees what breaks it."""

import datetime
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.database import EVERYONE, Database
from services.chassis.invariants import Rule
from services.triplets.core.erase_user import erase_user
from services.triplets.core.outcome import LEVELS, RETRACTED
from services.triplets.core.ports import TripletStore
from services.triplets.core.report_outcomes import OutcomeDraft, check_drafts, report_outcomes
from services.triplets.invariants import triplet_rules
from services.triplets.postgres import MIGRATIONS, PostgresTripletStore
from tests.support.domains import MOMENT, SCHEMA, TENANT, add_users, schema_of
from tests.support.infrastructure import Servers
from tests.support.planted import assert_seen, broken, findings_of, load_plants

PLANTS = load_plants(Path(__file__).parent / "triplet_violations.sql")


def rules_of(database: Database) -> list[Rule]:
    """The rules over the schema; the first two, which are dropped, are the server's."""
    return triplet_rules(database)[2:]


@pytest.fixture
async def lived(servers: Servers, schema: str) -> AsyncIterator[Database]:
    """Two domains with outcomes of all kinds, and somebody erased."""
    async with servers.owned(schema, MIGRATIONS) as opened:
        store = PostgresTripletStore(opened)
        for domain in ("dating", "hiring"):
            await live(store, domain)
        await opened.of(EVERYONE).execute(
            "alter table tallies drop constraint tallies_domain_id_number_fkey"
        )
        yield opened


async def live(store: TripletStore, domain: str) -> None:
    """Outcomes at random: repeated, late, corrected, taken back; and an erasure in between."""
    await store.create_domain(TENANT, schema_of(domain))
    people = [f"{domain[0]}{number}" for number in range(8)]
    await add_users(store, people, domain)
    chance = random.Random(domain)
    for round_number in range(6):
        drafts = [draft_of(chance, people) for _ in range(40)]
        sieve = check_drafts(drafts, datetime.datetime.now(datetime.UTC))
        async with store.open_domain(TENANT, domain) as unit:
            await report_outcomes(unit, drafts, sieve)
        if round_number == 3:
            async with store.open_domain(TENANT, domain) as unit:
                await erase_user(unit, people.pop(3))


def draft_of(chance: random.Random, people: list[str]) -> OutcomeDraft:
    """A word about a pair at one of a few moments, so that many meet."""
    seeker, candidate = chance.sample(people, 2)
    moment = MOMENT + datetime.timedelta(hours=chance.randrange(5))
    label = chance.choice([*LEVELS, *LEVELS, RETRACTED])
    return OutcomeDraft(
        seeker_id=seeker, candidate_id=candidate, label=label, weight=None, occurred_at=moment
    )


async def test_each_violation_is_named_by_its_rule(lived: Database) -> None:
    await assert_seen(lived, rules_of, PLANTS)


async def test_an_empty_store_and_an_empty_domain_hold(servers: Servers, schema: str) -> None:
    async with servers.migrated(schema, MIGRATIONS) as empty:
        assert broken(await findings_of(rules_of(empty))) == {}
        await PostgresTripletStore(empty).create_domain(TENANT, SCHEMA)
        assert broken(await findings_of(rules_of(empty))) == {}
