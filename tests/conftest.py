"""Fixtures that the suites share: real servers, with room for each test in them."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.infrastructure import Servers

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and NATS, for as long as the session lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.infrastructure"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt is for the tests; the servers end after them
    ) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told, "the servers do not start"
        yield Servers(**json.loads(told))
        # Leaving the block closes the process' input, which tells it to stop, and waits for it.


@pytest.fixture
async def schema(servers: Servers) -> AsyncIterator[str]:
    """The name of a schema of the test's own."""
    async with servers.schema() as name:
        yield name


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[str]:
    """The address of an empty database of the test's own."""
    async with servers.database() as dsn:
        yield dsn
