"""Checking rules: what is broken is named and counted, what cannot be checked says why."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import REGISTRY

from services.chassis import invariants as module
from services.chassis.database import EVERYONE, Database, migrations_of
from services.chassis.invariants import (
    OFFENDERS_MAX,
    Finding,
    Invariants,
    Rule,
    UncheckableError,
    apart_rule,
    durable_rule,
    sql_rules,
)
from services.gateway.invariants import gateway_rules
from services.gateway.postgres import queries as gateway
from services.scheduler import postgres as scheduler
from services.scheduler.core.ports import Manifests
from services.scheduler.invariants import scheduler_rules
from services.triplets.invariants import triplet_rules
from services.triplets.postgres import queries as triplets
from tests.contract.test_database import setting_off
from tests.support.faults import DeliberateError
from tests.support.infrastructure import Servers

QUERIES = """-- About the file.

-- name: I4_no_things
-- There are no things,
-- of whatever kind.
select name as offender from things where kind = any($1::text[]) order by name

-- name: I5_quick
-- It is quick.
select pg_sleep(2)::text as offender;
"""


@pytest.fixture
async def things(servers: Servers, schema: str, tmp_path: Path) -> AsyncIterator[Database]:
    (tmp_path / "0001_things.sql").write_text("create table things (name text, kind text);")
    async with servers.owned(schema, migrations_of(tmp_path)) as opened:
        yield opened


@pytest.fixture
def rules(things: Database, tmp_path: Path) -> list[Rule]:
    path = tmp_path / "invariants.sql"
    path.write_text(QUERIES)
    return sql_rules(things, path, {"I4_no_things": [["big", "small"]]})


def counted(invariant: str) -> float | None:
    name = "trine_invariant_violations_total"
    return REGISTRY.get_sample_value(name, {"invariant": invariant})


async def findings_of(*rules: Rule) -> list[Finding]:
    return await Invariants(rules).verify()


async def test_what_breaks_a_rule_is_named_and_counted(things: Database, rules: list[Rule]) -> None:
    (held,) = await findings_of(rules[0])
    assert (held.rule.invariant, held.rule.text) == ("I4", "There are no things, of whatever kind.")
    assert (held.offenders, held.unchecked) == ((), "")
    before = counted("I4")
    assert before is not None
    await things.of(EVERYONE).execute(
        "insert into things values ('a', 'big'), ('b', 'other'), ('c', 'small')"
    )
    (broken,) = await findings_of(rules[0])
    assert broken.offenders == ("a", "c")
    assert counted("I4") == before + 1


async def test_no_more_than_ten_are_named(things: Database, rules: list[Rule]) -> None:
    await things.of(EVERYONE).execute(
        "insert into things select n, 'big' from generate_series(10, 40) as n"
    )
    (broken,) = await findings_of(rules[0])
    assert broken.offenders == tuple(str(number) for number in range(10, 10 + OFFENDERS_MAX))


async def test_a_check_that_takes_too_long_is_given_up(
    things: Database, rules: list[Rule], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS_MAX", 0.1)
    before = counted("I5") or 0.0
    held, late = await findings_of(*rules)
    assert (held.unchecked, late.offenders) == ("", ())
    assert late.unchecked == "it takes more than 0.1 s"
    assert counted("I5") == before
    running = (
        "select count(*) from pg_stat_activity "
        "where query like '%pg_sleep(2)%' and state = 'active' and pid <> pg_backend_pid()"
    )
    assert await things.of(EVERYONE).fetchval(running) == 0


async def test_what_cannot_be_checked_says_why_and_keeps_nobody_from_the_rest() -> None:
    async def away() -> Sequence[str]:
        raise UncheckableError("it is away")

    async def fails() -> Sequence[str]:
        raise DeliberateError

    async def breaks() -> Sequence[str]:
        return ["this"]

    rules = [Rule("I9", "3", breaks), Rule("I2", "1", away), Rule("I3", "2", fails)]
    found = await findings_of(*rules)
    assert [(f.rule.text, f.unchecked, tuple(f.offenders)) for f in found] == [
        ("1", "it is away", ()),
        ("2", "DeliberateError", ()),
        ("3", "", ("this",)),
    ]


async def test_rules_are_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFY_SECONDS", 0.01)
    looks = asyncio.Semaphore(0)

    async def find() -> Sequence[str]:
        looks.release()
        return []

    watching = asyncio.create_task(Invariants([Rule("I4", "", find)]).watch())
    async with asyncio.timeout(5):
        for _ in range(3):
            await looks.acquire()
    watching.cancel()


async def test_a_server_that_begins_to_forget_is_seen(servers: Servers, things: Database) -> None:
    rule = durable_rule(things)
    assert not (await findings_of(rule))[0].offenders
    async with setting_off(servers.postgres_dsn, "fsync"):
        (found,) = await findings_of(rule)
    assert found.offenders == ("fsync",)


SERVICES = {
    "gateway": (gateway.MIGRATIONS, gateway_rules, "files"),
    "scheduler": (
        scheduler.MIGRATIONS,
        lambda database: scheduler_rules(database, cast("Manifests", None), 1.0),
        "heads",
    ),
    "triplets": (triplets.MIGRATIONS, triplet_rules, "outcomes"),
}
"""Migrations, rules, and a table with tenants."""


@pytest.mark.parametrize("service", SERVICES)
async def test_a_table_that_shows_all_tenants_is_seen(
    servers: Servers, schema: str, service: str
) -> None:
    migrations, rules_of, table = SERVICES[service]
    async with servers.migrated(schema, migrations) as opened:
        apart = rules_of(opened)[1]
        assert apart.invariant == "I12"
        assert (await findings_of(apart))[0].offenders == ()
        await servers.execute(schema, f"alter table {table} disable row level security")
        assert (await findings_of(apart))[0].offenders == (table,)


async def test_a_role_that_sees_all_tenants_is_seen(things: Database) -> None:
    (found,) = await findings_of(apart_rule(things))
    assert [word.split()[0] for word in found.offenders] == ["role", "things"]
