"""Migrations, the refusal of forgetful servers, and SQL that lives in .sql files."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest

from services.chassis import database
from services.chassis.database import (
    EVERYONE,
    Connection,
    DatabaseAwayError,
    SchemaOutdatedError,
    UnsafeDatabaseError,
    create_role,
    load_queries,
    migrations_of,
    open_database,
)
from services.chassis.database import migrate as migrate_schema
from services.gateway.postgres import queries as gateway
from services.scheduler import postgres as scheduler
from services.triplets.postgres import queries as triplets
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.infrastructure import SERVICE_ROLE, Servers

FIRST = "create table things (name text primary key); insert into things values ('first');"
SECOND = "insert into things values ('second'); alter table things add column size integer;"


@pytest.fixture
def migrations(tmp_path: Path) -> list[Path]:
    """Two migrations that do not work twice."""
    for name, text in (("0001_things", FIRST), ("0002_size", SECOND)):
        (tmp_path / f"{name}.sql").write_text(text)
    return migrations_of(tmp_path)


async def names_in(dsn: str, schema: str, table: str = "things") -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(f'select name from "{schema}".{table} order by name')  # noqa: S608  # our own
    finally:
        await connection.close()
    return [row["name"] for row in rows]


async def migrate(dsn: str, schema: str, migrations: Sequence[Path]) -> None:
    await migrate_schema(dsn, schema, migrations, SERVICE_ROLE)


async def test_migrations_run_once_and_in_their_order(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    for _ in range(3):
        await migrate(servers.postgres_dsn, schema, migrations)
    assert await names_in(servers.postgres_dsn, schema) == ["first", "second"]
    applied = await names_in(servers.postgres_dsn, schema, "migrations")
    assert applied == ["0001_things", "0002_size"]


async def test_a_later_release_runs_the_new_migrations_alone(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations[:1])
    assert await names_in(servers.postgres_dsn, schema) == ["first"]
    await migrate(servers.postgres_dsn, schema, migrations)
    assert await names_in(servers.postgres_dsn, schema) == ["first", "second"]


async def test_an_earlier_release_starts_on_a_later_schema(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations)
    await migrate(servers.postgres_dsn, schema, migrations[:1])
    assert await names_in(servers.postgres_dsn, schema) == ["first", "second"]


async def test_five_processes_may_migrate_at_once(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await asyncio.gather(*(migrate(servers.postgres_dsn, schema, migrations) for _ in range(5)))
    assert await names_in(servers.postgres_dsn, schema) == ["first", "second"]


async def test_two_services_may_migrate_their_schemas_at_once(database: str) -> None:
    services = (gateway, scheduler, triplets)
    await asyncio.gather(*(migrate(database, s.SCHEMA, s.MIGRATIONS) for s in services * 2))
    for service in services:
        applied = await names_in(database, service.SCHEMA, "migrations")
        assert applied == sorted(path.stem for path in service.MIGRATIONS)


async def test_a_migration_that_fails_leaves_nothing_behind(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    broken = migrations[1].with_name("0003_broken.sql")
    broken.write_text("insert into things values ('third'); select nonsense;")
    with pytest.raises(asyncpg.PostgresError):
        await migrate(servers.postgres_dsn, schema, [*migrations, broken])
    broken.write_text("insert into things values ('third');")
    await migrate(servers.postgres_dsn, schema, [*migrations, broken])
    assert await names_in(servers.postgres_dsn, schema) == ["first", "second", "third"]


async def test_migrations_of_a_service_follow_those_of_its_plumbing(tmp_path: Path) -> None:
    for name in ("0002_b.sql", "0001_a.sql", "notes.txt"):
        (tmp_path / name).write_text("")
    names = [path.stem for path in migrations_of(tmp_path, "outbox", "replies")]
    shared = [name for name in names if name[0] in "or"]
    assert names == [*sorted(shared), "0001_a", "0002_b"]
    assert {"outbox_0001", "replies_0001"} < set(shared)


async def test_every_connection_of_the_pool_sees_its_schema_first(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations)
    async with open_database(servers.service_dsn, schema, migrations, connections_max=3) as opened:
        begin = opened.begin
        async with begin() as one, begin() as two, begin() as three:
            seen = [await c.fetchval("select current_schema()") for c in (one, two, three)]
        assert seen == [schema] * 3
        # A connection that comes back to the pool is reset, not bent for the next one.
        async with begin() as connection:
            await connection.execute("set search_path to public")
        assert await opened.of().fetchval("select count(*) from things") == 2


async def test_a_forgotten_connection_is_given_up_soon_also_in_mid_transaction(
    servers: Servers, schema: str, migrations: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ANSWER_SECONDS_MAX", 0.5)
    await migrate(servers.postgres_dsn, schema, migrations)
    address = urlsplit(servers.service_dsn)
    link = FaultProxy(address.port or 0)
    user = address.netloc.rpartition("@")[0]
    dsn = address._replace(netloc=f"{user}@127.0.0.1:{link.port}").geturl()
    try:
        async with open_database(dsn, schema, migrations, connections_max=1) as opened:
            assert await opened.of().fetchval("select 1") == 1
            link.forget()
            with pytest.raises(DatabaseAwayError):
                await asyncio.wait_for(opened.of().fetchval("select 1"), 5)
            assert await opened.of().fetchval("select 1") == 1

            async def forget(_: object) -> None:
                link.forget()

            with pytest.raises(DeliberateError):
                await asyncio.wait_for(act_and_fail(opened.begin(), forget), 5)
            assert await opened.of().fetchval("select 1") == 1
    finally:
        link.close()


async def end_own_connection(connection: Connection) -> None:
    """What a server that goes down does to those who work with it."""
    await connection.execute("select pg_terminate_backend(pg_backend_pid())")


async def test_a_lost_connection_is_told_as_a_reason_to_call_again(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations)
    async with open_database(servers.service_dsn, schema, migrations, connections_max=1) as opened:
        with pytest.raises(DatabaseAwayError) as caught:
            async with opened.begin() as connection:
                await end_own_connection(connection)
        public = caught.value.public
        assert (public.code, public.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "SERVICE_UNAVAILABLE",
        )
        assert public.retry_after == 1
        assert await opened.of().fetchval("select 1") == 1
        # What the server itself says no to is no reason to call again.
        with pytest.raises(asyncpg.UndefinedTableError):
            await opened.of().fetchval("select 1 from nothing_there")


async def test_a_server_that_cannot_be_reached_is_told_as_a_reason_to_call_again(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations)
    address = urlsplit(servers.service_dsn)
    link = FaultProxy(address.port or 0)
    user = address.netloc.rpartition("@")[0]
    dsn = address._replace(netloc=f"{user}@127.0.0.1:{link.port}").geturl()
    async with open_database(dsn, schema, migrations, connections_max=1) as opened:
        link.close()
        for _ in range(2):  # what was open, and what would be opened in its place
            with pytest.raises(DatabaseAwayError):
                await opened.of().fetchval("select 1")


async def test_what_is_committed_stands_though_its_connection_cannot_be_put_back(
    servers: Servers, schema: str, migrations: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations)
    async with open_database(servers.service_dsn, schema, migrations, connections_max=1) as opened:
        plain = asyncpg.pool.Pool.release

        async def late(pool: Any, connection: Any, **options: float) -> None:
            connection.terminate()
            await plain(pool, connection, **options)
            raise TimeoutError

        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.pool.Pool, "release", late)
            await opened.of().execute("insert into things values ('third')")
        assert await opened.of().fetchval("select count(*) from things") == 3


async def test_the_pool_is_closed_with_the_block(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    async with servers.migrated(schema, migrations) as opened:
        assert await opened.of().fetchval("select 1") == 1
    with pytest.raises(asyncpg.InterfaceError):
        await opened.of().fetchval("select 1")


@asynccontextmanager
async def setting_off(dsn: str, name: str) -> AsyncIterator[None]:
    """Turns a setting of the whole server off for the block."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"alter system set {name} = off")
        await reload(connection, name, "off")
        try:
            yield
        finally:
            await connection.execute(f"alter system reset {name}")
            await reload(connection, name, "on")
    finally:
        await connection.close()


async def reload(
    connection: "asyncpg.Connection[asyncpg.Record]", name: str, expected: str
) -> None:
    await connection.execute("select pg_reload_conf()")
    async with asyncio.timeout(5):
        while await connection.fetchval(f"show {name}") != expected:  # noqa: ASYNC110  # a server cannot set an event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
async def test_a_server_that_may_forget_is_refused_before_anything_is_written(
    servers: Servers, schema: str, migrations: list[Path], name: str
) -> None:
    async with setting_off(servers.postgres_dsn, name):
        with pytest.raises(UnsafeDatabaseError, match=name):
            await migrate(servers.postgres_dsn, schema, migrations)
    with pytest.raises(asyncpg.UndefinedTableError):
        await names_in(servers.postgres_dsn, schema)
    await migrate(servers.postgres_dsn, schema, migrations)
    assert await names_in(servers.postgres_dsn, schema) == ["first", "second"]


async def test_a_database_whose_own_setting_lets_it_forget_is_refused(
    database: str, migrations: list[Path]
) -> None:
    name = database.rsplit("/", 1)[1]
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f'alter database "{name}" set synchronous_commit = off')
        with pytest.raises(UnsafeDatabaseError, match="synchronous_commit"):
            await migrate(database, "things", migrations)
        await connection.execute(f'alter database "{name}" set synchronous_commit = local')
        await migrate(database, "things", migrations)
    finally:
        await connection.close()
    assert await names_in(database, "things") == ["first", "second"]


async def test_a_service_does_not_work_with_a_schema_that_lacks_migrations(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    async with servers.migrated(schema, migrations[:1]):
        pass
    with pytest.raises(SchemaOutdatedError, match="0002_size"):
        async with open_database(servers.service_dsn, schema, migrations):
            pass


async def test_a_role_that_may_see_everything_is_refused(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    await migrate(servers.postgres_dsn, schema, migrations)
    with pytest.raises(UnsafeDatabaseError, match="row-level security"):
        async with open_database(servers.postgres_dsn, schema, migrations):
            pass
    await servers.execute(schema, f'alter table things owner to "{SERVICE_ROLE}"')
    with pytest.raises(UnsafeDatabaseError, match="row-level security"):
        async with open_database(servers.service_dsn, schema, migrations):
            pass


async def test_a_role_of_a_service_may_nothing_but_work_in_its_schema(
    servers: Servers, schema: str, migrations: list[Path]
) -> None:
    async with servers.migrated(schema, migrations) as opened:
        for command in (
            "alter table things disable row level security",
            "create table more (name text)",
            "truncate things",
            "delete from migrations",
            f"alter role {SERVICE_ROLE} bypassrls",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await opened.of(EVERYONE).execute(command)


async def test_a_role_gets_a_new_password_that_the_server_is_never_told(servers: Servers) -> None:
    role = f"test_{uuid.uuid4().hex}"
    for password in ("first of two", "sécond"):
        await create_role(servers.postgres_dsn, role, password)
        connection = await asyncpg.connect(servers.postgres_dsn, user=role, password=password)
        await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(servers.postgres_dsn, user=role, password="first of two")
    await servers.execute("public", f"drop role {role}")


def test_each_query_of_a_file_is_found_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(
        "-- About the file.\n\n"
        "-- name: first_thing\nselect 1; -- one\n\n"
        "-- name: second\n-- why\nselect\n    2;\n"
    )
    assert load_queries(path) == {
        "first_thing": "select 1; -- one",
        "second": "-- why\nselect\n    2;",
    }


@pytest.mark.parametrize(
    ("migrations", "queries"),
    [
        (gateway.MIGRATIONS, gateway.SQL),
        (scheduler.MIGRATIONS, scheduler._SQL),
        (triplets.MIGRATIONS, triplets.SQL),
    ],
    ids=["gateway", "scheduler", "triplets"],
)
async def test_every_query_of_a_service_fits_its_schema(
    servers: Servers, schema: str, migrations: list[Path], queries: Mapping[str, str]
) -> None:
    assert queries
    async with (
        servers.migrated(schema, migrations) as opened,
        opened.begin(EVERYONE) as connection,
    ):
        for text in queries.values():
            assert (await connection.prepare(text)).get_query() == text
