"""PostgreSQL: a pool bound to one schema, SQL that lives in .sql files, and numbered migrations.

Correctness rests on committed transactions surviving a crash, so a server that runs with fsync,
full_page_writes or synchronous_commit off is refused.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import asyncpg
import grpc

from services.chassis.errors import ErrorRow, ErrorTable

# Quoted: generic in the stubs alone.
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

POOL_CONNECTIONS_MAX = 16
COMMAND_SECONDS_MAX = 60.0
DURABLE_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")
"""What a server that keeps its word does not turn off."""
_MIGRATION_LOCK = 0x7472696E65  # "trine"
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


TEXT_ERRORS: ErrorTable = {
    asyncpg.CharacterNotInRepertoireError: ErrorRow(
        grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"
    ),
    asyncpg.UntranslatableCharacterError: ErrorRow(
        grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"
    ),
}
"""What a NUL character in an id comes to: PostgreSQL's own word for it tells nothing else."""


class UnsafeDatabaseError(Exception):
    """The server may forget what it has acknowledged."""


@asynccontextmanager
async def open_database(
    dsn: str, schema: str, migrations: Sequence[Path], connections_max: int = POOL_CONNECTIONS_MAX
) -> AsyncIterator[Pool]:
    """Migrates the schema and opens a pool whose connections see it first.

    Raises:
        UnsafeDatabaseError: the server's settings risk acknowledged data.
    """
    await _migrate(dsn, schema, migrations)
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=connections_max,
        command_timeout=COMMAND_SECONDS_MAX,
        server_settings={"search_path": schema, "application_name": f"trine-{schema}"},
    )
    async with pool:
        yield pool


def migrations_of(folder: Path, *plumbing: str) -> list[Path]:
    """The migrations in a service's folder, after those of the plumbing that it uses."""
    shared = Path(__file__).parent / "migrations"
    chassis = [path for name in plumbing for path in sorted(shared.glob(f"{name}_*.sql"))]
    return chassis + sorted(folder.glob("*.sql"))


def load_queries(path: Path) -> Mapping[str, str]:
    """Reads the queries of a .sql file, each under its line "-- name: <name>"."""
    parts = _NAME.split(path.read_text())
    names = parts[1::2]
    assert len(set(names)) == len(names), f"{path} has two queries of one name"
    return dict(zip(names, (part.strip() for part in parts[2::2]), strict=True))


async def _migrate(dsn: str, schema: str, migrations: Sequence[Path]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await _refuse_unsafe(connection)
        async with connection.transaction():
            # Two pods may start at once; the second waits and then finds nothing left to do.
            await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f'create schema if not exists "{schema}"')
            await connection.execute(f'set local search_path to "{schema}"')
            await connection.execute(
                "create table if not exists migrations "
                "(name text primary key, apply_time timestamptz not null default now())"
            )
            applied = {row["name"] for row in await connection.fetch("select name from migrations")}
            for path in migrations:
                if path.stem not in applied:
                    await connection.execute(path.read_text())
                    await connection.execute("insert into migrations (name) values ($1)", path.stem)
    finally:
        await connection.close()


async def _refuse_unsafe(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    for setting in DURABLE_SETTINGS:
        if await connection.fetchval(f"show {setting}") == "off":
            raise UnsafeDatabaseError(f"PostgreSQL runs with {setting} = off")
