"""A triplet store that was filled by an earlier release."""

import asyncpg

from services.chassis.database import EVERYONE
from services.triplets.core.outcome import Pair
from services.triplets.postgres import MIGRATIONS, PostgresTripletStore
from tests.support.infrastructure import Servers

FILLED = """
insert into domains (tenant, domain, schema, revision, users_count, triplets_count)
select 'acme', domain,
    '{"number": 1, "fields": [], "encoder": "caller", "dim": 1}', 3, 2, 1
from (values ('dating'), ('hiring')) as made (domain);
insert into users
select tenant, domain, number, domain || number, 1, '', '{}', '', '\\x003c', 'caller', now()
from domains, generate_series(0, 1) as number;
insert into tallies
select tenant, domain, number, 3, '{0,0,1,0}', '{1,0,0,0}' from users;
insert into outcomes
(tenant, domain, revision, seeker, candidate, label, level, weight, occurred_at)
select tenant, domain, 3, 0, 1, 'accepted', 2, 1, now() from domains;
"""


async def test_domains_keep_what_they_had_when_rows_take_their_numbers(
    servers: Servers, schema: str
) -> None:
    early = MIGRATIONS[: [path.stem for path in MIGRATIONS].index("0002_domain_ids")]
    async with servers.migrated(schema, early) as database:
        await database.of(EVERYONE).execute(FILLED)
    async with servers.migrated(schema, MIGRATIONS) as database:
        store = PostgresTripletStore(database)
        for domain in ("dating", "hiring"):
            stored = await store.read_profile("acme", domain, f"{domain}1")
            assert stored is not None
            arrays = await store.read_arrays("acme", domain, 3)
            assert arrays.user_ids == [f"{domain}0", f"{domain}1"]
            assert (arrays.seekers.tolist(), arrays.candidates.tolist()) == ([0], [1])
            async with store.open_domain("acme", domain) as unit:
                assert await unit.find_numbers([f"{domain}1", "nobody"]) == {f"{domain}1": 1}
                assert set(await unit.standing_words([Pair(0, 1), Pair(1, 0)])) == {Pair(0, 1)}
                assert (await unit.tallies([0]))[0].given == (0, 0, 1, 0)
            for query in ("users", "tallies", "outcomes"):
                kept = await database.of(EVERYONE).fetchval(f"select count(domain_id) from {query}")  # noqa: S608
                assert kept == {"users": 4, "tallies": 4, "outcomes": 2}[query]


async def test_numbers_stay_unique_in_their_domain(servers: Servers, schema: str) -> None:
    async with servers.migrated(schema, MIGRATIONS) as database:
        rows: list[asyncpg.Record] = await database.of(EVERYONE).fetch(
            "select conname from pg_constraint where conrelid = 'users'::regclass and contype in "
            "('p', 'u', 'f') order by conname"
        )
    names = [row["conname"] for row in rows]
    assert names == ["users_domain_id_fkey", "users_domain_id_user_id_key", "users_pkey"]
