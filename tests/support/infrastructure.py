"""A PostgreSQL and a NATS server for a test session, in a process of their own.

Run as a module it starts both as the launcher does, says where they are, and stops them when its
standard input ends: a session that is killed leaves nothing behind.
"""

import asyncio
import dataclasses
import json
import socket
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from services.chassis.database import Database, create_role, migrate, open_database
from services.mesh import programs
from services.mesh.child import Child
from services.mesh.home import Home, Secrets
from services.mesh.nats_users import mesh_url

READY_SECONDS_MAX = 30.0
SERVICE_ROLE = "trine_service"


@dataclass(frozen=True)
class Servers:
    """Where the servers are."""

    postgres_dsn: str
    """As the owner."""
    service_dsn: str
    """As a role like a service's, for schemas that `migrated` has let it into."""
    nats_url: str
    nats_monitor: str

    @asynccontextmanager
    async def schema(self) -> AsyncIterator[str]:
        """Gives the name of a schema that nobody else uses and that goes with the block.

        A schema takes a tenth of the time of a database, which begins with 8 MB of catalogues.
        """
        name = f"test_{uuid.uuid4().hex}"
        try:
            yield name
        finally:
            await self._execute(f'drop schema if exists "{name}" cascade')

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """Gives the address of an empty database, which goes with the block."""
        name = f"test_{uuid.uuid4().hex}"
        await self._execute(f'create database "{name}"')
        try:
            yield urlsplit(self.postgres_dsn)._replace(path=f"/{name}").geturl()
        finally:
            await self._execute(f'drop database "{name}" with (force)')

    @asynccontextmanager
    async def migrated(self, schema: str, migrations: Sequence[Path]) -> AsyncIterator[Database]:
        """Migrates a schema as its owner and opens it as the service that works in it."""
        await migrate(self.postgres_dsn, schema, migrations, SERVICE_ROLE)
        async with open_database(self.service_dsn, schema, migrations) as opened:
            yield opened

    @asynccontextmanager
    async def owned(self, schema: str, migrations: Sequence[Path]) -> AsyncIterator[Database]:
        """Migrates a schema and opens it as its owner, who may do to it what no service may."""
        await migrate(self.postgres_dsn, schema, migrations, SERVICE_ROLE)
        settings = {"search_path": schema}
        async with asyncpg.create_pool(
            self.postgres_dsn, min_size=1, server_settings=settings
        ) as pool:
            yield Database(pool)

    async def execute(self, schema: str, command: str) -> None:
        """Executes a command of the owner in a schema."""
        await self._execute(f'set search_path to "{schema}"; {command}')

    async def _execute(self, command: str) -> None:
        connection = await asyncpg.connect(self.postgres_dsn)
        try:
            await connection.execute(command)
        finally:
            await connection.close()


def prepare_home(folder: Path) -> Home:
    """A home whose folders are there."""
    home = Home(folder)
    for part in (home.logs, home.config):
        part.mkdir(parents=True)
    return home


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(held.getsockname()[1]) for held in sockets]
    for held in sockets:
        held.close()
    return ports


async def _serve(folder: Path) -> None:
    home, secrets = prepare_home(folder), Secrets()
    postgres_port, nats_port, monitor_port = free_ports(3)
    children = [
        Child(spec, lambda: None)
        for spec in (
            programs.postgres(home, postgres_port, secrets),
            programs.nats(home, nats_port, monitor_port, secrets),
        )
    ]
    try:
        for child in children:
            await child.start()
        for child in children:
            await child.until_ready(READY_SECONDS_MAX)
        owner = programs.postgres_dsn(postgres_port, secrets)
        password = secrets.gateway_postgres_password
        await create_role(owner, SERVICE_ROLE, password)
        netloc = f"{SERVICE_ROLE}:{password}@127.0.0.1:{postgres_port}"
        servers = Servers(
            postgres_dsn=owner,
            service_dsn=urlsplit(owner)._replace(netloc=netloc).geturl(),
            nats_url=mesh_url(f"127.0.0.1:{nats_port}", secrets),
            nats_monitor=f"http://127.0.0.1:{monitor_port}",
        )
        print(json.dumps(dataclasses.asdict(servers)), flush=True)  # noqa: T201  # for the session
        await asyncio.to_thread(sys.stdin.read)
    finally:
        for child in children:
            await child.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="trine-tests-") as temporary:
        asyncio.run(_serve(Path(temporary)))
