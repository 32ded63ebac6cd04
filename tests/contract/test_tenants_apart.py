"""Row-level security under a service's role: a forgotten "where tenant" shows and changes nothing.

Every table of every service is filled with a row per tenant by what it declares, so that a table
that comes later is looked at too.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncpg
import pytest

from services.chassis.database import EVERYONE, Database
from services.gateway.postgres import queries as gateway
from services.scheduler import postgres as scheduler
from services.triplets.postgres import queries as triplets
from tests.support.infrastructure import Servers

A, B = "acme", "globex"
NOBODYS = {
    "migrations": "what releases have done",
    "erasures": "digests of bytes, which are kept once whoever sent them",
    "shared_domains": "a count for a domain that several tenants share",
}
"""Tables without a tenant, and why."""

TABLES = """
select relname, relrowsecurity from pg_class
where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') order by relname
"""
VIEWS = """
select relname, coalesce(reloptions, '{}') as options from pg_class
where relnamespace = current_schema()::regnamespace and relkind in ('v', 'm')
"""
COLUMNS = """
select attname as name, format_type(atttypid, null) as type,
    attnotnull or attname = 'domain_id' as needed
from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped
"""
NAMED = {("runs", "state"): "'queued'", ("rollouts", "step"): "'waiting'"}
"""Values of columns that take only some."""


@dataclass(frozen=True)
class Filled:
    """A service's schema with a row of each of two tenants in every table that has a tenant."""

    database: Database
    tables: Sequence[str]

    async def count(self, table: str, *tenants: str) -> int:
        """How many rows a statement sees that forgets to ask whose they are."""
        found: int = await self.database.of(*tenants).fetchval(f"select count(*) from {table}")  # noqa: S608
        return found


@pytest.fixture(params=[gateway, scheduler, triplets], ids=["gateway", "scheduler", "triplets"])
async def filled(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Filled]:
    async with (
        servers.schema() as name,
        servers.migrated(name, request.param.MIGRATIONS) as database,
    ):
        owner = await asyncpg.connect(servers.postgres_dsn, server_settings={"search_path": name})
        try:
            await owner.execute("set session_replication_role = replica")  # foreign keys sleep
            found = [row["relname"] for row in await owner.fetch(TABLES)]
            tables = [table for table in found if table not in NOBODYS]
            for table in tables:
                for tenant, key in ((A, 1), (B, 2)):
                    await fill(owner, table, tenant, key)
        finally:
            await owner.close()
        yield Filled(database, tables)


async def fill(
    owner: "asyncpg.Connection[asyncpg.Record]", table: str, tenant: str, key: int
) -> None:
    """Adds a row whose ids and numbers are the tenant's and whose rest is anything that fits."""
    columns = [column for column in await owner.fetch(COLUMNS, table) if column["needed"]]
    names = ", ".join(column["name"] for column in columns)
    values = ", ".join(value_of(table, c["name"], c["type"], tenant, key) for c in columns)
    await owner.execute(
        f"insert into {table} ({names}) overriding system value values ({values})"  # noqa: S608
    )


def value_of(table: str, name: str, kind: str, tenant: str, key: int) -> str:
    """An SQL literal for a column."""
    if (table, name) in NAMED:
        return NAMED[table, name]
    if kind in ("integer", "bigint", "smallint", "double precision"):
        return str(key)
    return {
        "text": f"'{tenant}'",
        "boolean": "false",
        "bytea": "decode(repeat('00', 32), 'hex')",
        "uuid": f"'{uuid.UUID(int=key)}'",
        "date": "now()",
        "timestamp with time zone": "now()",
    }.get(kind, "'{}'")


async def test_a_statement_that_forgets_the_tenant_sees_its_tenants_rows_alone(
    filled: Filled,
) -> None:
    scopes = ((A,), (B,), (A, B), (EVERYONE,))
    seen = {t: [await filled.count(t, *scope) for scope in scopes] for t in filled.tables}
    assert seen == {table: [1, 1, 2, 2] for table in filled.tables}


async def test_a_transaction_that_does_not_say_whose_rows_it_is_about_sees_none(
    filled: Filled,
) -> None:
    for scope in ((), ("",), ("other",), (f"{A}-b",), ("%",)):
        assert sum([await filled.count(table, *scope) for table in filled.tables]) == 0


async def test_a_statement_that_forgets_the_tenant_changes_nobody_elses_rows(
    filled: Filled,
) -> None:
    for table in filled.tables:
        async with filled.database.begin("other") as connection:
            assert await connection.fetch(f"select * from {table} for update") == []  # noqa: S608
            assert await connection.execute(f"delete from {table}") == "DELETE 0"  # noqa: S608
    left = {table: await filled.count(table, EVERYONE) for table in filled.tables}
    assert left == dict.fromkeys(filled.tables, 2)


async def take_over(filled: Filled, table: str) -> None:
    """Writes the rows of all anew, in a transaction that is about somebody else."""
    async with filled.database.begin(EVERYONE) as connection:
        names = ", ".join(row["name"] for row in await connection.fetch(COLUMNS, table))
        await connection.execute(f"create temporary table given as table {table}")
        await connection.execute("select set_config('trine.tenants', 'other', true)")
        await connection.execute(
            f"insert into {table} ({names}) overriding system value select {names} from given"  # noqa: S608
        )


async def test_nobody_adds_a_row_in_anothers_name(filled: Filled) -> None:
    for table in filled.tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await take_over(filled, table)


async def test_every_table_keeps_tenants_apart_or_has_none(filled: Filled) -> None:
    rows = await filled.database.of().fetch(TABLES)
    assert {row["relname"] for row in rows if not row["relrowsecurity"]} <= set(NOBODYS)


async def test_a_view_is_looked_through_as_whoever_looks(filled: Filled) -> None:
    for view in await filled.database.of().fetch(VIEWS):
        assert "security_invoker=true" in view["options"], view["relname"]
