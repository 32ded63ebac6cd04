"""Jobs, runs, heads and pointers in PostgreSQL."""

import dataclasses
import datetime
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from services.chassis.author import current_author
from services.chassis.database import EVERYONE, Connection, Database, load_queries, migrations_of
from services.chassis.outbox import CloudEvent, add_to_outbox
from services.scheduler.core.errors import RunActiveError
from services.scheduler.core.estimate import PastRun
from services.scheduler.core.file_source import Checkpoint, FileResult
from services.scheduler.core.head import SHARED, Ancestor, Head, LearnedHead
from services.scheduler.core.matching_policy import MatchingPolicy
from services.scheduler.core.ports import HeadEventKind, Heartbeat, RunEventKind, SchedulerUnit
from services.scheduler.core.run import (
    ACTIVE,
    LEASED,
    MOVES,
    Failure,
    Job,
    LossPoint,
    Run,
    State,
    Trigger,
    attempt_after,
    run_id_of,
)
from services.scheduler.core.run_events import Move, RunHistory
from services.scheduler.core.training_policy import PolicyChoice
from services.scheduler.core.verdict import Verdict
from services.scheduler.rollout_postgres import (
    PostgresRollouts,
    PostgresRolloutUnit,
    RolloutEvent,
)
from services.scheduler.rows import dumped, file_dataset, file_job, file_result, verdict_of

SCHEMA = "scheduler"
_HERE = Path(__file__).parent
MIGRATIONS = migrations_of(_HERE / "migrations", "outbox", "replies")
_SQL = load_queries(_HERE / "queries.sql")

_HEAD_COLUMNS = [one.name for one in dataclasses.fields(Head) if one.name != "verdict"]

RunEvent = Callable[[RunEventKind, Run], CloudEvent]
HeadEvent = Callable[[HeadEventKind, str, str, Head | None, str], CloudEvent]


class PostgresSchedulerStore(PostgresRollouts):
    """The scheduler's store on a database bound to its schema."""

    def __init__(
        self,
        database: Database,
        run_event: RunEvent,
        head_event: HeadEvent,
        rollout_event: RolloutEvent,
        wake_relay: Callable[[], None],
    ) -> None:
        """Takes how events look on the bus, and what tells the relay that there are some."""
        super().__init__(database)
        self._forms = (run_event, head_event, rollout_event)
        self._wake_relay = wake_relay

    @asynccontextmanager
    async def _begin(self, tenant: str) -> AsyncIterator[SchedulerUnit]:
        async with self._database.begin(tenant, SHARED) as connection:
            yield PostgresSchedulerUnit(connection, *self._forms)
        self._wake_relay()

    def begin(self, tenant: str) -> AbstractAsyncContextManager[SchedulerUnit]:
        """Opens a unit about a tenant and what all share; "*" opens one about everyone."""
        return self._begin(tenant)

    async def read_run(self, tenant: str, run_id: str) -> Run | None:
        """Returns a run with its loss curve."""
        async with self._database.begin(tenant) as connection:
            row = await connection.fetchrow(_SQL["read_run"], tenant, run_id)
            points = await connection.fetch(_SQL["loss_curve"], tenant, run_id)
        if row is None:
            return None
        return dataclasses.replace(_run(row), loss_curve=tuple(LossPoint(*p) for p in points))

    async def read_runs(self, tenant: str, run_ids: Collection[str]) -> list[Run]:
        """Returns runs."""
        rows = await self._of(tenant).fetch(_SQL["read_runs"], tenant, list(run_ids))
        return [_run(row) for row in rows]

    async def list_runs(
        self, tenant: str, domain: str, before: str, limit: int, *, from_files: bool = False
    ) -> list[Run]:
        """Returns runs, newest first."""
        rows = await self._of(tenant).fetch(
            _SQL["list_runs"], tenant, domain, before, limit, from_files
        )
        return [_run(row) for row in rows]

    async def read_history(self, tenant: str, run_id: str) -> RunHistory:
        """Returns when what happened in a run."""
        key = (tenant, run_id)
        # One snapshot: a point without its time would be neither here nor there.
        async with self._database.begin(tenant, snapshot=True) as connection:
            moves = await connection.fetch(_SQL["moves"], *key)
            points = await connection.fetch(_SQL["loss_curve"], *key)
            times = await connection.fetch(_SQL["evaluation_times"], *key)
            dataset_time = await connection.fetchval(_SQL["dataset_time"], *key)
        return RunHistory(
            moves=tuple(Move(**{**dict(move), "state": State(move["state"])}) for move in moves),
            evaluations=tuple(
                (LossPoint(*point), time["create_time"])
                for point, time in zip(points, times, strict=True)
            ),
            dataset_time=dataset_time,
        )

    async def list_checkpoints(self, tenant: str, run_id: str) -> list[Checkpoint]:
        """Returns a run's checkpoints, newest first."""
        rows = await self._of(tenant).fetch(_SQL["list_checkpoints"], tenant, run_id)
        return [Checkpoint(**dict(row)) for row in rows]

    async def list_in_use(self, tenant: str) -> list[Head]:
        """Returns the heads in use of a tenant."""
        return [_head(row) for row in await self._of(tenant).fetch(_SQL["list_in_use"], tenant)]

    async def list_heads(self, tenant: str, domain: str, before: str, limit: int) -> list[Head]:
        """Returns heads, newest first."""
        rows = await self._of(tenant).fetch(_SQL["list_heads"], tenant, domain, before, limit)
        return [_head(row) for row in rows]

    async def list_heads_of(
        self, tenant: str, snapshots: Sequence[tuple[str, str]], before: str, limit: int
    ) -> list[LearnedHead]:
        """Returns the heads that learned from any of these snapshots, newest first."""
        domains, digests = [domain for domain, _ in snapshots], [digest for _, digest in snapshots]
        values = (tenant, domains, digests, before, limit, SHARED)
        rows = await self._of(tenant, SHARED).fetch(_SQL["list_heads_of"], *values)
        return [LearnedHead(_head(row), row["snapshot_digest"]) for row in rows]

    async def read_head(self, tenant: str, head: str) -> Head | None:
        """Returns a head of whichever domain."""
        row = await self._of(tenant).fetchrow(_SQL["read_head"], tenant, head)
        return None if row is None else _head(row)

    async def ancestors(self, tenant: str, head: str, limit: int) -> list[Ancestor]:
        """Returns the parents of a head."""
        rows = await self._of(tenant, SHARED).fetch(_SQL["ancestors"], tenant, head, limit, SHARED)
        return [Ancestor(**dict(row)) for row in rows]

    async def head_in_use(self, tenant: str, domain: str) -> Head | None:
        """Returns the head in use."""
        row = await self._of(tenant).fetchrow(_SQL["head_in_use"], tenant, domain)
        return None if row is None else _head(row)

    async def pinned_head(self, tenant: str, domain: str) -> str | None:
        """Returns the head that the pointer is pinned to."""
        row = await self._of(tenant).fetchrow(_SQL["pinned_head"], tenant, domain)
        return None if row is None else row["head"]

    async def last_run_time(self, tenant: str, domain: str) -> datetime.datetime | None:
        """Returns when the domain's newest run was created."""
        row = await self._of(tenant).fetchrow(_SQL["last_run_time"], tenant, domain)
        return None if row is None else row["max"]

    async def active_run(self, tenant: str, domain: str) -> Run | None:
        """Returns the domain's run that has not ended."""
        row = await self._of(tenant).fetchrow(_SQL["active_run"], tenant, domain)
        return None if row is None else _run(row)

    async def read_policy(self, tenant: str, domain: str) -> PolicyChoice:
        """Returns what the tenant chose for the domain."""
        row = await self._of(tenant).fetchrow(_SQL["read_policy"], tenant, domain)
        return PolicyChoice() if row is None else PolicyChoice(**dict(row))

    async def list_policies(self) -> dict[tuple[str, str], PolicyChoice]:
        """Returns all choices by (tenant, domain)."""
        rows = [dict(row) for row in await self._of(EVERYONE).fetch(_SQL["list_policies"])]
        return {(row.pop("tenant"), row.pop("domain")): PolicyChoice(**row) for row in rows}

    async def read_matching_policy(self, tenant: str, domain: str) -> MatchingPolicy:
        """Returns how a domain's matches are made."""
        row = await self._of(tenant).fetchrow(_SQL["read_matching_policy"], tenant, domain)
        return MatchingPolicy() if row is None else MatchingPolicy(**dict(row))

    async def past_runs(self, limit: int) -> list[PastRun]:
        """Returns what the newest successful runs took."""
        return [PastRun(*row) for row in await self._of(EVERYONE).fetch(_SQL["past_runs"], limit)]

    async def snapshots_in_use(self) -> set[str]:
        """Returns the snapshots of active runs."""
        found = await self._of(EVERYONE).fetch(_SQL["snapshots_in_use"])
        return {row["snapshot_digest"] for row in found}

    async def queued_count(self) -> int:
        """Returns how many runs wait for a trainer."""
        return int(await self._of(EVERYONE).fetchval(_SQL["queued_count"]))

    async def run_counts(self) -> dict[str, tuple[int, float]]:
        """Returns, by active state, how many runs are in it and the oldest's age in seconds."""
        rows = await self._of(EVERYONE).fetch(_SQL["run_counts"])
        return {row["state"]: (row["runs"], row["age_seconds"]) for row in rows}

    async def untold_runs(self, limit: int) -> list[Run]:
        """Returns successful runs that the triplet store has not been told of."""
        return [_run(row) for row in await self._of(EVERYONE).fetch(_SQL["untold_runs"], limit)]

    async def mark_told(self, run: Run) -> None:
        """Notes that the triplet store knows of a run."""
        await self._of(run.job.tenant).execute(_SQL["mark_told"], run.job.tenant, run.run_id)


class PostgresSchedulerUnit(PostgresRolloutUnit):
    """One transaction."""

    def __init__(
        self,
        connection: Connection,
        run_event: RunEvent,
        head_event: HeadEvent,
        rollout_event: RolloutEvent,
    ) -> None:
        super().__init__(connection, rollout_event)
        self._run_event = run_event
        self._head_event = head_event

    async def add_run(self, job: Job) -> Run:
        """Queues a run for a job."""
        day = await self._connection.fetchval(_SQL["today"])
        number = await self._connection.fetchval(_SQL["next_number"], job.tenant, day)
        job_id = await self._connection.fetchval(
            _SQL["add_job"],
            job.tenant,
            job.domain,
            job.trigger,
            job.forced,
            job.revision,
            job.triplets_count,
            job.seed,
            dumped(job.files),
        )
        run_id = run_id_of(day, number)
        key = (job.tenant, run_id)
        if not await self._connection.fetchval(
            _SQL["add_run"], *key, job_id, job.domain, job.model
        ):
            active = await self._connection.fetchrow(_SQL["active_run"], job.tenant, job.domain)
            named = ("unknown", "ending") if active is None else (active["run_id"], active["state"])
            raise RunActiveError(job.domain, *named)
        run = _run(await self._fetch(_SQL["read_run"], *key))
        await self._add_transition(run)
        return run

    async def lock_file_runs(self, tenant: str) -> int:
        """Counts a tenant's active runs from files; nobody adds one until the unit ends."""
        await self._connection.execute(_SQL["take_file_runs_turn"], tenant)
        return int(await self._connection.fetchval(_SQL["file_runs_count"], tenant))

    async def find_file_run(self, tenant: str, model: str) -> Run | None:
        """Returns the run that makes a model."""
        row = await self._connection.fetchrow(_SQL["find_file_run"], tenant, model)
        return None if row is None else _run(row)

    async def lock_run(self, tenant: str, run_id: str) -> Run | None:
        """Returns a run and keeps others from changing it."""
        row = await self._connection.fetchrow(_SQL["lock_run"], tenant, run_id)
        return None if row is None else _run(row)

    async def lock_queued_run(self) -> Run | None:
        """Returns the oldest queued run that nobody else is taking."""
        row = await self._connection.fetchrow(_SQL["lock_queued_run"])
        return None if row is None else _run(row)

    async def lock_expired_runs(self) -> list[Run]:
        """Returns leased runs whose lease has ended."""
        return [_run(row) for row in await self._connection.fetch(_SQL["lock_expired_runs"])]

    async def start_lease(
        self, run: Run, trainer: str, seconds: float, incumbent: str, prior: str = ""
    ) -> Run:
        """Moves a run to STARTING under a new, larger token."""
        assert State.STARTING in MOVES[run.state]
        key = (run.job.tenant, run.run_id)
        row = await self._fetch(_SQL["start_lease"], *key, trainer, incumbent, seconds, prior)
        leased = dataclasses.replace(
            run, state=State.STARTING, incumbent=incumbent, prior=prior, **dict(row)
        )
        await self._add_transition(leased)
        return leased

    async def extend_lease(self, run: Run, seconds: float, heartbeat: Heartbeat) -> None:
        """Moves the lease's end and keeps what the trainer reported."""
        key = (run.job.tenant, run.run_id)
        await self._connection.execute(
            _SQL["extend_lease"],
            *key,
            seconds,
            heartbeat.steps_done_count,
            heartbeat.steps_count,
            heartbeat.snapshot_digest,
            heartbeat.checkpoint_digest,
            dumped(heartbeat.dataset),
        )
        points = list({point.step: point for point in heartbeat.loss_points}.values())
        if points:
            await self._connection.execute(
                _SQL["add_loss_points"],
                *key,
                [point.step for point in points],
                [point.loss for point in points],
                [point.validation_ndcg_at_10 for point in points],
                [point.stage for point in points],
                [point.validation_loss for point in points],
            )
        if heartbeat.checkpoints:
            await self._connection.execute(
                _SQL["add_checkpoints"],
                *key,
                [checkpoint.step for checkpoint in heartbeat.checkpoints],
                [checkpoint.training_loss for checkpoint in heartbeat.checkpoints],
                [checkpoint.validation_loss for checkpoint in heartbeat.checkpoints],
                [checkpoint.validation_ndcg_at_10 for checkpoint in heartbeat.checkpoints],
                [checkpoint.manifest_digest for checkpoint in heartbeat.checkpoints],
            )

    async def move_run(
        self,
        run: Run,
        state: State,
        *,
        failure: Failure | None = None,
        verdict: Verdict | None = None,
        head: str = "",
        result: FileResult | None = None,
    ) -> Run:
        """Moves a run to another state."""
        assert state in MOVES[run.state], f"{run.state} → {state}"
        attempt = attempt_after(run, state)
        row = await self._fetch(
            _SQL["move_run"],
            run.job.tenant,
            run.run_id,
            state,
            state in LEASED,
            dumped(failure),
            dumped(verdict),
            head,
            state not in ACTIVE,
            attempt,
            dumped(result),
        )
        moved = dataclasses.replace(
            run,
            state=state,
            attempt=attempt,
            failure=failure,
            verdict=verdict,
            head=head,
            result=result,
            end_time=row["end_time"],
        )
        await self._add_transition(moved)
        return moved

    async def request_stop(self, run: Run) -> Run:
        """Notes that a run shall end with what it has learned."""
        await self._connection.execute(_SQL["request_stop"], run.job.tenant, run.run_id)
        return dataclasses.replace(run, stop_requested=True)

    async def add_head(self, head: Head) -> None:
        """Keeps a new head."""
        await self._connection.execute(
            _SQL["add_head"],
            head.tenant,
            head.domain,
            head.head,
            head.run_id,
            head.parent,
            head.tier,
            head.manifest_digest,
            dumped(head.verdict),
            head.create_time,
        )

    async def lock_pointer(self, tenant: str, domain: str) -> Head | None:
        """Returns the head in use and keeps others from moving the pointer."""
        await self._connection.execute(_SQL["claim_pointer"], tenant, domain)
        head = await self._connection.fetchval(_SQL["lock_pointer"], tenant, domain)
        return await self.find_head(tenant, domain, head) if head else None

    async def move_pointer(
        self, tenant: str, domain: str, head: str, previous: str, reason: str
    ) -> None:
        """Puts a head in use."""
        await self._connection.execute(_SQL["move_pointer"], tenant, domain, head)
        await self._connection.execute(
            _SQL["add_promotion"], tenant, domain, head, previous, reason, *current_author()
        )

    async def is_pinned(self, tenant: str, domain: str) -> bool:
        """Says whether the pointer is pinned."""
        return bool(await self._connection.fetchval(_SQL["is_pinned"], tenant, domain))

    async def set_pinned(self, tenant: str, domain: str, *, pinned: bool) -> None:
        """Pins the pointer where it points, or unpins it."""
        await self._connection.execute(_SQL["set_pinned"], tenant, domain, pinned)
        await self._note(tenant, "pin", domain, str(pinned).lower())

    async def was_in_use(self, tenant: str, domain: str, head: str) -> bool:
        """Says whether the pointer has ever pointed at the head."""
        return bool(await self._connection.fetchval(_SQL["was_in_use"], tenant, domain, head))

    async def find_head(self, tenant: str, domain: str, head: str) -> Head | None:
        """Returns a head."""
        row = await self._connection.fetchrow(_SQL["find_head"], tenant, domain, head)
        return None if row is None else _head(row)

    async def delete_head(self, tenant: str, head: str) -> None:
        """Takes a model out of use for good."""
        await self._connection.execute(_SQL["delete_head"], tenant, head)
        await self._note(tenant, "model", head, "deleted")

    async def save_policy(self, tenant: str, domain: str, choice: PolicyChoice) -> None:
        """Keeps what a tenant chose for a domain."""
        chosen = dataclasses.astuple(choice)
        await self._connection.execute(_SQL["save_policy"], tenant, domain, *chosen)
        await self._note(tenant, "training_policy", domain, json.dumps(dataclasses.asdict(choice)))

    async def save_matching_policy(self, tenant: str, domain: str, policy: MatchingPolicy) -> None:
        """Keeps how a domain's matches are made."""
        chosen = dataclasses.astuple(policy)
        await self._connection.execute(_SQL["save_matching_policy"], tenant, domain, *chosen)
        await self._note(tenant, "matching_policy", domain, json.dumps(dataclasses.asdict(policy)))

    async def emit_run(self, kind: RunEventKind, run: Run) -> None:
        """Writes an event about a run into the outbox."""
        await add_to_outbox(self._connection, self._run_event(kind, run))

    async def emit_head(
        self, kind: HeadEventKind, tenant: str, domain: str, head: Head | None, previous: str
    ) -> None:
        """Writes an event about the pointer into the outbox."""
        event = self._head_event(kind, tenant, domain, head, previous)
        await add_to_outbox(self._connection, event)

    async def _add_transition(self, run: Run) -> None:
        key = (run.job.tenant, run.run_id)
        await self._connection.execute(
            _SQL["add_transition"], *key, run.state, run.attempt, run.token, *current_author()
        )

    async def _fetch(self, query: str, *arguments: Any) -> asyncpg.Record:
        row = await self._connection.fetchrow(query, *arguments)
        assert row is not None
        return row


def _run(row: asyncpg.Record) -> Run:
    return Run(
        job=Job(
            tenant=row["tenant"],
            domain=row["domain"],
            trigger=Trigger(row["trigger"]),
            forced=row["forced"],
            revision=row["revision"],
            triplets_count=row["triplets_count"],
            seed=row["seed"],
            files=file_job(row["files"]),
        ),
        run_id=row["run_id"],
        state=State(row["state"]),
        create_time=row["create_time"],
        attempt=row["attempt"],
        token=row["token"],
        incumbent=row["incumbent"],
        prior=row["prior"],
        snapshot_digest=row["snapshot_digest"],
        checkpoint_digest=row["checkpoint_digest"],
        steps_done_count=row["steps_done_count"],
        steps_count=row["steps_count"],
        head=row["head"],
        verdict=verdict_of(row["verdict"]),
        failure=Failure(**json.loads(row["failure"])) if row["failure"] else None,
        stop_requested=row["stop_requested"],
        dataset=file_dataset(row["dataset"]),
        result=file_result(row["result"]),
        start_time=row["start_time"],
        end_time=row["end_time"],
    )


def _head(row: asyncpg.Record) -> Head:
    verdict = verdict_of(row["verdict"])
    assert verdict is not None
    return Head(**{name: row[name] for name in _HEAD_COLUMNS}, verdict=verdict)
