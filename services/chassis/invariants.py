"""Invariants as code: rules that a service checks of what it holds, by a query or a comparison.

A rule finds what breaks it. All of them are checked when somebody asks (`trine verify`) and by
themselves on a slow timer; what is found is counted, and the count must stay 0. Each check is
bounded: so many seconds, so many names.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import structlog
from prometheus_client import Counter
from trine.chassis.v1 import invariant_service_pb2 as pb
from trine.chassis.v1 import invariant_service_pb2_grpc

from services.chassis.database import DURABLE_SETTINGS, EVERYONE, Database, load_queries
from services.chassis.interceptors import Context

SERVICE = "trine.chassis.v1.InvariantService"
VERIFY_SECONDS = 60.0
CHECK_SECONDS_MAX = 5.0
OFFENDERS_MAX = 10
_NAME = re.compile(r"(I\d+)_\w+")

_NOT_APART = """
select 'role ' || rolname as offender from pg_roles
where rolname = current_user and (rolsuper or rolbypassrls)
union all
select c.relname::text from pg_class as c
where
    c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
    and c.relname <> all($1::text[])
    and not (c.relrowsecurity and exists (select from pg_policy as p where p.polrelid = c.oid))
order by 1
"""

VIOLATIONS = Counter(
    "trine_invariant_violations_total",
    "Rules found broken, once a look, by the invariant that they follow from. Must stay 0.",
    ("invariant",),
)

_log = structlog.get_logger()

Find = Callable[[], Awaitable[Sequence[str]]]
"""Names what breaks a rule.

Raises:
    UncheckableError: says why it cannot.
"""


class UncheckableError(Exception):
    """A rule cannot be checked here and now."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold because of an invariant."""

    invariant: str
    """Such as "I4"."""
    text: str
    find: Find


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of checking a rule."""

    rule: Rule
    offenders: Sequence[str] = ()
    unchecked: str = ""
    """Why it was not checked."""


class Invariants:
    """The rules of one service."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = sorted(rules, key=lambda rule: int(rule.invariant.removeprefix("I")))
        for rule in self._rules:
            VIOLATIONS.labels(rule.invariant)  # is seen as 0 from the start

    async def verify(self) -> list[Finding]:
        """Checks every rule, one after the other, and counts what is broken."""
        return [await self._check(rule) for rule in self._rules]

    async def watch(self) -> None:
        """Checks again and again; first when what a restart left behind has been seen to."""
        while True:
            await asyncio.sleep(VERIFY_SECONDS)
            await self.verify()

    async def _check(self, rule: Rule) -> Finding:
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                offenders = tuple(await rule.find())[:OFFENDERS_MAX]
        except UncheckableError as error:
            return Finding(rule, unchecked=str(error))
        except (TimeoutError, asyncpg.QueryCanceledError):
            return Finding(rule, unchecked=f"it takes more than {CHECK_SECONDS_MAX:g} s")
        except Exception as error:
            _log.exception("invariant_unchecked", invariant=rule.invariant, rule=rule.text)
            return Finding(rule, unchecked=type(error).__name__)
        if offenders:
            VIOLATIONS.labels(rule.invariant).inc()
            told = {"invariant": rule.invariant, "rule": rule.text, "offenders": offenders}
            _log.error("invariant_violated", **told)
        return Finding(rule, offenders)


class InvariantServicer(invariant_service_pb2_grpc.InvariantServiceServicer):
    """Checks the rules when asked."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants

    async def VerifyInvariants(  # noqa: N802  # gRPC's name
        self,
        request: pb.VerifyInvariantsRequest,  # noqa: ARG002  # gRPC's signature
        context: Context,  # noqa: ARG002
    ) -> pb.VerifyInvariantsResponse:
        """Checks every rule now."""
        findings = await self._invariants.verify()
        return pb.VerifyInvariantsResponse(rules=[_to_proto(finding) for finding in findings])


def add_invariants(server: grpc.aio.Server, invariants: Invariants) -> None:
    """Puts the servicer on a server."""
    invariant_service_pb2_grpc.add_InvariantServiceServicer_to_server(
        InvariantServicer(invariants), server
    )


def durable_rule(database: Database) -> Rule:
    """What open_database refuses at the start may be turned off later."""
    query = (
        "select name as offender from pg_settings where name = any($1::text[]) and setting = 'off'"
    )
    text = "PostgreSQL runs with nothing off that keeps what it has acknowledged."
    return Rule("I1", text, _asking(database, query, [list(DURABLE_SETTINGS)]))


def apart_rule(database: Database, nobodys: Sequence[str] = ()) -> Rule:
    """No migration forgets to keep the tenants of a table apart, and no role is above that.

    `nobodys` are the tables that have no tenant.
    """
    text = "Row-level security stands on every table with a tenant, and binds who asks."
    return Rule("I12", text, _asking(database, _NOT_APART, [["migrations", *nobodys]]))


def sql_rules(
    database: Database, path: Path, arguments: Mapping[str, Sequence[object]] | None = None
) -> list[Rule]:
    """The rules of a .sql file.

    Each stands under "-- name: I<n>_<name>" and its words as comments; the query's rows name what
    breaks it in their column `offender`. `arguments` are a query's parameters, by its name.
    """
    given = arguments or {}
    queries = load_queries(path)
    assert set(given) <= set(queries), "arguments for no query"
    return [_sql_rule(database, name, text, given.get(name, ())) for name, text in queries.items()]


def _sql_rule(database: Database, name: str, text: str, arguments: Sequence[object]) -> Rule:
    match = _NAME.fullmatch(name)
    assert match, f"{name} names no invariant"
    lines = text.splitlines()
    words = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
    return Rule(match[1], " ".join(words), _asking(database, text, arguments))


def _asking(database: Database, query: str, arguments: Sequence[object]) -> Find:
    bounded = (
        f"select offender from (\n{query.rstrip().rstrip(';')}\n) as broken limit {OFFENDERS_MAX}"  # noqa: S608  # our own
    )

    async def find() -> list[str]:
        return [row["offender"] for row in await look(database, bounded, *arguments)]

    return find


async def look(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of a query that only reads, over all tenants, and is given up when it takes long."""
    async with database.begin(EVERYONE, snapshot=True) as connection:
        limit = f"set local statement_timeout = '{CHECK_SECONDS_MAX:g}s'"
        await connection.execute(limit)
        return await connection.fetch(query, *arguments)


def _to_proto(finding: Finding) -> pb.CheckedRule:
    checked = pb.CheckedRule
    result = checked.RESULT_VIOLATED if finding.offenders else checked.RESULT_HELD
    return checked(
        invariant=finding.rule.invariant,
        rule=finding.rule.text,
        result=checked.RESULT_UNCHECKED if finding.unchecked else result,
        offenders=finding.offenders,
        reason=finding.unchecked,
    )
