"""The gateway's rules: each holds of rows as use cases leave them, and sees what breaks it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.database import EVERYONE, Database
from services.chassis.invariants import Rule
from services.gateway.invariants import gateway_rules
from services.gateway.postgres import MIGRATIONS
from tests.support.infrastructure import Servers
from tests.support.planted import assert_seen, broken, findings_of, load_plants

LIVED = (Path(__file__).parent / "gateway_rows.sql").read_text()

PLANTS = load_plants(Path(__file__).parent / "gateway_violations.sql")


def rules_of(database: Database) -> list[Rule]:
    """The rules over the schema; the first two, which are dropped, are the server's."""
    return gateway_rules(database)[2:]


@pytest.fixture
async def lived(servers: Servers, schema: str) -> AsyncIterator[Database]:
    """A schema with a row of every kind."""
    async with servers.owned(schema, MIGRATIONS) as opened:
        assert broken(await findings_of(rules_of(opened))) == {}
        await opened.of(EVERYONE).execute(LIVED)
        yield opened


async def test_each_violation_is_named_by_its_rule(lived: Database) -> None:
    await assert_seen(lived, rules_of, PLANTS)
