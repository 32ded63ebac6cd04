"""PostgreSQL: a pool bound to one schema, SQL that lives in .sql files, and numbered migrations.

Correctness rests on committed transactions surviving a crash, so a server that runs with fsync,
full_page_writes or synchronous_commit off is refused. Tenants are kept apart by row-level security:
the owner migrates, a service connects as a role that owns nothing, and each of its transactions
says whose rows it is about; the policies of the migrations show it no others.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import grpc
import structlog

from services.chassis.errors import ErrorRow, ErrorTable, PublicError, RefusedError

# Quoted: generic in the stubs alone.
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
AnyConnection: TypeAlias = "Connection | asyncpg.Connection[asyncpg.Record]"

EVERYONE = "*"
"""In a tenant's place: the rows of all tenants, for what the mesh does on its own account."""

POOL_CONNECTIONS_MAX = 16
COMMAND_SECONDS_MAX = 30.0
"""Of one statement: as long as the edge lets a caller wait for all of an answer."""
ANSWER_SECONDS_MAX = 3.0
"""For what the server answers at once: a connection that a part of the network has forgotten says
nothing for ever, and those who wait for it hold the pool."""
IDLE_SECONDS_MAX = 20.0
"""So long a transaction may stand idle before the server ends it."""
GONE_SETTINGS = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS_MAX * 1_000:.0f}",
}
"""When the server for its part gives up a client, and the locks that it holds."""
DURABLE_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")
"""What a server that keeps its word does not turn off."""
_MIGRATION_LOCK = 0x7472696E65  # "trine"
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_SCRAM_ROUNDS = 4096
_SAY_WHOSE = "select set_config('trine.tenants', $1, true)"
_IS_UNBOUND = """
select rolsuper or rolbypassrls or exists (
    select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1 and pg_has_role(current_user, c.relowner, 'member')
) from pg_roles where rolname = current_user
"""
_GRANTS = """
grant usage on schema "{schema}" to "{role}";
grant select, insert, update, delete on all tables in schema "{schema}" to "{role}";
grant usage on all sequences in schema "{schema}" to "{role}";
revoke insert, update, delete on "{schema}".migrations from "{role}";
"""


TEXT_ERRORS: ErrorTable = {
    asyncpg.CharacterNotInRepertoireError: ErrorRow(
        grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"
    ),
    asyncpg.UntranslatableCharacterError: ErrorRow(
        grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"
    ),
}
"""What a NUL character in an id comes to: PostgreSQL's own word for it tells nothing else."""


_AWAY = PublicError(
    grpc.StatusCode.UNAVAILABLE,
    "SERVICE_UNAVAILABLE",
    "The database does not answer. Call again.",
    retry_seconds=1.0,
)
_AWAY_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)

_log = structlog.get_logger()


class DatabaseAwayError(RefusedError):
    """The server does not answer any more; what it was asked may be done all the same."""

    def __init__(self) -> None:
        super().__init__(_AWAY)


class UnsafeDatabaseError(Exception):
    """The server may forget what it has acknowledged, or shows a service more than it should."""


class SchemaOutdatedError(Exception):
    """The schema lacks migrations that this release needs; its owner has to run them first."""


class Rows:
    """Single statements about the rows of some tenants, each in a transaction of its own."""

    def __init__(self, database: "Database", tenants: Sequence[str]) -> None:
        self._database = database
        self._tenants = tenants

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows that a query gives."""
        async with self._database.begin(*self._tenants) as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row that a query gives."""
        async with self._database.begin(*self._tenants) as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        async with self._database.begin(*self._tenants) as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> None:
        """Executes a statement."""
        async with self._database.begin(*self._tenants) as connection:
            await connection.execute(query, *arguments)

    async def executemany(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        """Executes a statement for each row of arguments."""
        async with self._database.begin(*self._tenants) as connection:
            await connection.executemany(query, rows)


class Database:
    """A pool whose transactions say whose rows they are about; they see and change no others."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def of(self, *tenants: str) -> Rows:
        """Single statements about the rows of some tenants, mostly of one, or of EVERYONE."""
        return Rows(self, tenants)

    @asynccontextmanager
    async def begin(self, *tenants: str, snapshot: bool = False) -> AsyncIterator[Connection]:
        """A transaction about the rows of some tenants, mostly of one, or of EVERYONE.

        Args:
            tenants: Their ids, which hold no comma.
            snapshot: It only reads, and sees one moment.

        Raises:
            DatabaseAwayError: the connection could not be made, or was lost.
        """
        isolation: Any = "repeatable_read" if snapshot else None
        connection = await self._acquire()
        try:
            transaction = connection.transaction(isolation=isolation, readonly=snapshot)
            async with _answered_soon(connection):
                await transaction.start()
                await connection.execute(_SAY_WHOSE, ",".join(tenants))
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    async with _answered_soon(connection):
                        await transaction.rollback()
                raise
            await transaction.commit()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if _is_lost(connection) or isinstance(error, _AWAY_ERRORS):
                raise _away(error) from error
            raise
        finally:
            # What cannot be cleaned in time is thrown away by the pool; what was done in it stands.
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._pool.release(connection, timeout=ANSWER_SECONDS_MAX)

    async def _acquire(self) -> Connection:
        try:
            return await self._pool.acquire()
        except (OSError, *_AWAY_ERRORS) as error:
            raise _away(error) from error


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has already put it away
        return True


def _away(error: Exception) -> DatabaseAwayError:
    _log.warning("database_away", reason=f"{type(error).__name__}: {error}")
    return DatabaseAwayError()


@asynccontextmanager
async def _answered_soon(connection: Connection) -> AsyncIterator[None]:
    """Gives a connection up whose other end does not answer what takes no time.

    Raises:
        TimeoutError: so it is.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            yield
    except TimeoutError:
        connection.terminate()
        raise


@asynccontextmanager
async def open_database(
    dsn: str, schema: str, migrations: Sequence[Path], connections_max: int = POOL_CONNECTIONS_MAX
) -> AsyncIterator[Database]:
    """Opens a migrated schema as the service that works in it.

    Raises:
        SchemaOutdatedError: the schema lacks some of the migrations.
        UnsafeDatabaseError: the server's settings risk acknowledged data, or the role would see
            the rows of all tenants whatever it says.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=connections_max,
        command_timeout=COMMAND_SECONDS_MAX,
        timeout=ANSWER_SECONDS_MAX,
        server_settings={
            "search_path": schema,
            "application_name": f"trine-{schema}",
            **GONE_SETTINGS,
        },
    )
    async with pool:
        async with pool.acquire() as connection:
            await _refuse_forgetful(connection)
            await _refuse_unbound(connection, schema)
            applied = {row["name"] for row in await connection.fetch("select name from migrations")}
        missing = [path.stem for path in migrations if path.stem not in applied]
        if missing:
            raise SchemaOutdatedError(f"{schema} lacks {', '.join(missing)}")
        yield Database(pool)


async def create_role(dsn: str, role: str, password: str) -> None:
    """Creates the role that a service connects as, or gives it a new password.

    The server is sent what checks the password, not the password: statements may be logged.
    """
    options = "login nosuperuser nobypassrls nocreatedb nocreaterole noinherit noreplication"
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            known = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
            # Words of the kind that "alter role" may only repeat to a superuser.
            begin = f'alter role "{role}"' if known else f'create role "{role}" {options}'
            await connection.execute(f"{begin} password '{_scram_verifier(password)}'")
    finally:
        await connection.close()


async def migrate(dsn: str, schema: str, migrations: Sequence[Path], role: str) -> None:
    """Migrates a schema as its owner and lets a service's role work in it.

    Raises:
        UnsafeDatabaseError: the server's settings risk acknowledged data.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await _refuse_forgetful(connection)
        async with connection.transaction():
            # Two may start at once; the second waits and then finds nothing left to do.
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
            await connection.execute(_GRANTS.format(schema=schema, role=role))
    finally:
        await connection.close()


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


async def _refuse_forgetful(connection: AnyConnection) -> None:
    for setting in DURABLE_SETTINGS:
        if await connection.fetchval(f"show {setting}") == "off":
            raise UnsafeDatabaseError(f"PostgreSQL runs with {setting} = off")


async def _refuse_unbound(connection: AnyConnection, schema: str) -> None:
    if await connection.fetchval(_IS_UNBOUND, schema):
        raise UnsafeDatabaseError("the role of the service is not bound by row-level security")


def _scram_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5803); made here, it is never sent in the clear."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ROUNDS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = (salt, hashlib.sha256(client_key).digest(), server_key)
    told = [base64.b64encode(part).decode() for part in parts]
    return f"SCRAM-SHA-256${_SCRAM_ROUNDS}:{told[0]}${told[1]}:{told[2]}"
