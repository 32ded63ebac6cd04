"""The gateway's rules: each holds of rows as use cases leave them, and sees what breaks it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.database import Pool, open_database
from services.chassis.invariants import Rule
from services.gateway.invariants import gateway_rules
from services.gateway.postgres import MIGRATIONS
from tests.support.infrastructure import Servers
from tests.support.planted import assert_seen, broken, findings_of, load_plants

LIVED = (Path(__file__).parent / "gateway_rows.sql").read_text()

PLANTS = load_plants(Path(__file__).parent / "gateway_violations.sql")


def rules_of(pool: Pool) -> list[Rule]:
    """The rules over the schema; the first, which is dropped, is the server's."""
    return gateway_rules(pool)[1:]


@pytest.fixture
async def pool(servers: Servers, schema: str) -> AsyncIterator[Pool]:
    """A schema with a row of every kind."""
    async with open_database(servers.postgres_dsn, schema, MIGRATIONS) as opened:
        assert broken(await findings_of(rules_of(opened))) == {}
        await opened.execute(LIVED)
        yield opened


async def test_each_violation_is_named_by_its_rule(pool: Pool) -> None:
    await assert_seen(pool, rules_of, PLANTS)
