"""Rollouts in PostgreSQL: the part of the scheduler's store and unit that keeps them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import asyncpg

from services.chassis.author import current_author
from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE, Connection, Database, load_queries
from services.chassis.outbox import CloudEvent, add_to_outbox
from services.chassis.replies import PostgresReplies
from services.scheduler.core.head import Challenger, PromotedHead
from services.scheduler.core.rollout import Rollout, ShadowFigures, Step
from services.scheduler.core.rollout_policy import (
    AT_ONCE,
    CanaryPolicy,
    RolloutPolicy,
    ShadowPolicy,
)
from services.scheduler.core.sequential_test import ArmCounts

RolloutEvent = Callable[[Rollout], CloudEvent]

_SQL = load_queries(Path(__file__).parent / "queries.sql")


class PostgresRollouts:
    """What the store reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._of = database.of

    async def list_promoted(self, after: tuple[str, str], limit: int) -> list[PromotedHead]:
        """Returns what is in use by (tenant, domain), and what challenges it."""
        rows = await self._of(EVERYONE).fetch(_SQL["list_promoted"], *after, limit)
        return [_promoted(row) for row in rows]

    async def read_rollout_policy(self, tenant: str, domain: str) -> RolloutPolicy:
        """Returns how heads of a domain come into use."""
        return _policy(await self._of(tenant).fetchval(_SQL["read_rollout_policy"], tenant, domain))

    async def read_rollout(self, tenant: str, rollout_id: str) -> Rollout | None:
        """Returns a rollout."""
        row = await self._of(tenant).fetchrow(_SQL["read_rollout"], tenant, rollout_id)
        return None if row is None else _rollout(row)

    async def list_rollouts(
        self, tenant: str, domain: str, before: str, limit: int
    ) -> list[Rollout]:
        """Returns rollouts, newest first."""
        rows = await self._of(tenant).fetch(_SQL["list_rollouts"], tenant, domain, before, limit)
        return [_rollout(row) for row in rows]

    async def active_rollouts(self) -> list[Rollout]:
        """Returns all rollouts in shadow or canary."""
        return [_rollout(row) for row in await self._of(EVERYONE).fetch(_SQL["active_rollouts"])]


class PostgresRolloutUnit(PostgresReplies):
    """What a unit reads and writes."""

    def __init__(self, connection: Connection, rollout_event: RolloutEvent) -> None:
        super().__init__(connection)
        self._rollout_event = rollout_event

    async def read_rollout_policy(self, tenant: str, domain: str) -> RolloutPolicy:
        """Returns how heads of a domain come into use."""
        return _policy(await self._connection.fetchval(_SQL["read_rollout_policy"], tenant, domain))

    async def save_rollout_policy(self, tenant: str, domain: str, policy: RolloutPolicy) -> None:
        """Keeps how heads of a domain come into use."""
        await self._connection.execute(_SQL["save_rollout_policy"], tenant, domain, _json(policy))
        await self._note(tenant, "rollout_policy", domain, _json(policy))

    async def find_rollout(self, tenant: str, rollout_id: str) -> Rollout | None:
        """Returns a rollout."""
        row = await self._connection.fetchrow(_SQL["read_rollout"], tenant, rollout_id)
        return None if row is None else _rollout(row)

    async def open_rollouts(self, tenant: str, domain: str) -> list[Rollout]:
        """Returns a domain's rollouts that have not ended."""
        rows = await self._connection.fetch(_SQL["open_rollouts"], tenant, domain)
        return [_rollout(row) for row in rows]

    async def save_rollout(self, rollout: Rollout) -> None:
        """Keeps a rollout as it is now."""
        await self._connection.execute(
            _SQL["save_rollout"],
            *(rollout.tenant, rollout.rollout_id, rollout.domain, rollout.head, rollout.incumbent),
            *(_json(rollout.policy), rollout.step, rollout.reason),
            *(_json(rollout.challenger), _json(rollout.incumbent_arm)),
            *(rollout.look_time, rollout.create_time, rollout.step_time, rollout.end_time),
        )

    async def save_figures(
        self, tenant: str, rollout_id: str, server: str, figures: ShadowFigures
    ) -> None:
        """Keeps what a serving process reports of a rollout."""
        values = dataclasses.astuple(figures)
        await self._connection.execute(_SQL["save_figures"], tenant, rollout_id, server, *values)

    async def emit_rollout(self, rollout: Rollout) -> None:
        """Writes an event about a rollout into the outbox."""
        await add_to_outbox(self._connection, self._rollout_event(rollout))
        await self._note(rollout.tenant, "rollout", rollout.rollout_id, rollout.step)
        crashpoint("scheduler.rollout.written")

    async def _note(self, tenant: str, kind: str, name: str, value: str) -> None:
        """Keeps whose change it was, in the change's own transaction."""
        changed = (tenant, kind, name, value)
        await self._connection.execute(_SQL["add_change"], *changed, *current_author())


def _promoted(row: asyncpg.Record) -> PromotedHead:
    challenger = None
    if row["challenger"] is not None:
        policy = _policy(row["policy"])
        step = policy.shadow if row["step"] == Step.SHADOW else policy.canary
        assert step is not None
        challenger = Challenger(
            rollout_id=row["rollout_id"],
            step=row["step"],
            share=step.share,
            head=row["challenger"],
            tier=row["challenger_tier"],
            manifest_digest=row["challenger_digest"],
        )
    names = ("tenant", "domain", "head", "tier", "manifest_digest", "exploration")
    return PromotedHead(**{name: row[name] for name in names}, challenger=challenger)


def _json(value: RolloutPolicy | ArmCounts) -> str:
    return json.dumps(dataclasses.asdict(value))


def _policy(text: str | None) -> RolloutPolicy:
    if text is None:
        return AT_ONCE
    steps = json.loads(text)
    return RolloutPolicy(
        shadow=ShadowPolicy(**steps["shadow"]) if steps["shadow"] else None,
        canary=CanaryPolicy(**steps["canary"]) if steps["canary"] else None,
    )


def _rollout(row: asyncpg.Record) -> Rollout:
    content = dict(row)
    figures = {f.name: content.pop(f.name) for f in dataclasses.fields(ShadowFigures)}
    content["policy"], content["step"] = _policy(content["policy"]), Step(content["step"])
    for name in ("challenger", "incumbent_arm"):
        content[name] = ArmCounts(**json.loads(content[name]))
    return Rollout(**content, figures=ShadowFigures(**figures))
