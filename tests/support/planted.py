"""Violations on purpose: what a schema forbids is taken away first, and the rule must see it."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from services.chassis.database import Connection, Database
from services.chassis.invariants import Finding, Invariants, Rule

_PLANT = re.compile(r"^-- breaks: (.+)\n-- named: (.+)\n((?:[^-\n].*\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Plant:
    """A violation.

    Attributes:
        rule: Beginning of the rule that must see it, in its words.
        offender: A part of what the rule must name.
        sql: Statements that bring it about.
    """

    rule: str
    offender: str
    sql: str


def load_plants(path: Path) -> list[Plant]:
    """The violations of a .sql file, each under "-- breaks: <rule>" and "-- named: <offender>"."""
    return [Plant(*found) for found in _PLANT.findall(path.read_text())]


class _OneConnection:
    """A database whose only connection is in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def begin(
        self, *_tenants: str, snapshot: bool
    ) -> AsyncIterator[Connection]:  # all it has
        async with self._connection.transaction():
            yield self._connection


async def findings_of(rules: Sequence[Rule]) -> list[Finding]:
    """Checks rules as a service does."""
    return await Invariants(rules).verify()


def broken(findings: Sequence[Finding]) -> dict[str, Sequence[str]]:
    """What breaks which rule, by its words."""
    assert [f"{f.rule.text}: {f.unchecked}" for f in findings if f.unchecked] == []
    return {finding.rule.text: finding.offenders for finding in findings if finding.offenders}


async def assert_seen(
    database: Database, rules_of: Callable[[Database], Sequence[Rule]], plants: Sequence[Plant]
) -> None:
    """Plants one violation after the other where everything holds; its rule must name each.

    And each rule must have one: none stands that nothing could break.
    """
    rules = rules_of(database)
    assert plants
    assert broken(await findings_of(rules)) == {}
    for plant in plants:
        seen = await _seen(database, rules_of, plant)
        named = [offenders for text, offenders in seen.items() if text.startswith(plant.rule)]
        assert len(named) == 1, (plant, seen)
        assert any(plant.offender in offender for offender in named[0]), (plant, named)
    for rule in rules:
        assert any(rule.text.startswith(plant.rule) for plant in plants), rule.text


async def _seen(
    database: Database, rules_of: Callable[[Database], Sequence[Rule]], plant: Plant
) -> dict[str, Sequence[str]]:
    async with database._pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(plant.sql)
            inside = cast("Database", _OneConnection(connection))
            return broken(await findings_of(rules_of(inside)))
        finally:
            await transaction.rollback()
