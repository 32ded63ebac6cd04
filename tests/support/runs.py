"""A scheduler's store with what tests need around it, and short ways to move runs and heads."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis.clock import ManualClock, SystemClock
from services.chassis.database import EVERYONE, Database
from services.scheduler.core.complete_run import complete_run
from services.scheduler.core.file_source import (
    Checkpoint,
    FileDataset,
    FileJob,
    FileResult,
    FileSource,
    Hyperparameters,
    InputFile,
    Method,
)
from services.scheduler.core.head import Head
from services.scheduler.core.lease_run import Directive, heartbeat_run, lease_run
from services.scheduler.core.ports import Heartbeat, SchedulerStore
from services.scheduler.core.run import Job, LossPoint, Run, State, Trigger, head_of
from services.scheduler.core.verdict import (
    GENERAL,
    Counterfactual,
    Interval,
    Quality,
    Rule,
    Values,
    Verdict,
)
from services.scheduler.events import TYPE_PREFIX, head_event, rollout_event, run_event
from services.scheduler.memory import MemorySchedulerStore
from services.scheduler.postgres import MIGRATIONS, PostgresSchedulerStore
from tests.support.infrastructure import Servers

TENANT = "acme"
DOMAIN = "dating"
CLOCK = SystemClock()
LONG_SECONDS = 60.0
SHORT_SECONDS = 0.05
MOMENT = datetime.datetime(2026, 5, 17, 8, 0, 0, 123_456, tzinfo=datetime.UTC)
COUNTERFACTUAL = Counterfactual(
    matches_count=1_000,
    explored_count=200,
    positives_count=90,
    challenger=Values(
        ips=Interval(0.1, 0.2, 0.3), snips=Interval(0.1, 1 / 3, 0.4), dr=Interval(0.2, 0.3, 0.4)
    ),
    incumbent=Values(
        ips=Interval(0.0, 0.1, 0.2), snips=Interval(0.0, 0.2, 0.3), dr=Interval(0.1, 0.2, 0.3)
    ),
    difference=Values(
        ips=Interval(-0.1, 0.1, 0.3), snips=Interval(-0.1, 2 / 15, 0.2), dr=Interval(0.0, 0.1, 0.2)
    ),
)


@dataclass(frozen=True)
class SchedulerSetting:
    """A store, its time, and what it has told the world."""

    store: SchedulerStore
    wait: Callable[[float], Awaitable[None]]
    events: Callable[[], Awaitable[list[str]]]


@asynccontextmanager
async def open_scheduler(kind: str, servers: Servers) -> AsyncIterator[SchedulerSetting]:
    """An empty store in memory or in PostgreSQL."""
    if kind == "memory":
        yield _memory_setting()
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield postgres_setting(database)


def _memory_setting() -> SchedulerSetting:
    clock = ManualClock(MOMENT)
    store = MemorySchedulerStore(clock)

    async def wait(seconds: float) -> None:
        clock.advance(seconds)

    async def events() -> list[str]:
        return [name for name, _ in store.events]

    return SchedulerSetting(store, wait, events)


def postgres_setting(database: Database) -> SchedulerSetting:
    """The store of a migrated schema."""

    async def events() -> list[str]:
        rows = await database.of(EVERYONE).fetch(
            "select payload::json ->> 'type' as type from outbox order by id"
        )
        return [row["type"].removeprefix(f"{TYPE_PREFIX}.") for row in rows]

    store = PostgresSchedulerStore(database, run_event, head_event, rollout_event, lambda: None)
    return SchedulerSetting(store, asyncio.sleep, events)


def job_of(domain: str = DOMAIN, tenant: str = TENANT, triplets_count: int = 1_000) -> Job:
    """A wish to train."""
    return Job(
        tenant=tenant,
        domain=domain,
        trigger=Trigger.AUTOMATIC,
        forced=True,
        revision=2**40,
        triplets_count=triplets_count,
        seed=7,
    )


def file_job_of(
    number: int = 1, tenant: str = TENANT, base_head: str = "", method: Method = Method.AUTO
) -> Job:
    """A wish to train the n-th model of a tenant from files."""
    source = FileSource(
        training_file=InputFile("1" * 64, 1_000),
        validation_file=InputFile("2" * 64, 100) if number % 2 else None,
        base_model=base_head or "trine-general",
        method=method,
        hyperparameters=Hyperparameters(n_epochs=3, learning_rate_multiplier=0.5),
        model=f"ft:trine-general:{tenant}::{number}",
    )
    return Job(
        tenant=tenant,
        domain="",
        trigger=Trigger.MANUAL,
        forced=True,
        revision=0,
        triplets_count=0,
        seed=7,
        files=FileJob(
            source=source,
            base_head=base_head,
            base_manifest_digest="ef" * 32 if base_head else "",
        ),
    )


DATASET = FileDataset(
    training_lines_count=90,
    validation_lines_count=10,
    held_out_lines_count=10,
    items_count=250,
    tokens_count=4_000,
    method=Method.DPO,
)
RESULT = FileResult(
    result_file_digest="12" * 32,
    result_file_size_bytes=512,
    trained_tokens_count=12_000,
    hyperparameters=Hyperparameters(
        n_epochs=3, batch_size=32, learning_rate_multiplier=0.5, beta=0.1
    ),
)


def checkpoint_of(step: int, loss: float | None = 0.25) -> Checkpoint:
    """A model after some steps; without a loss nothing was held out."""
    return Checkpoint(
        step=step,
        training_loss=0.5,
        validation_loss=loss,
        validation_ndcg_at_10=None if loss is None else 0.75,
        manifest_digest=f"{step:064x}",
    )


def verdict_of(incumbent: str = GENERAL, *, promoted: bool = True) -> Verdict:
    """A verdict whose numbers all differ."""
    return Verdict(
        promoted=promoted,
        reasons=() if promoted else ("too few seekers", "AUC fell"),
        incumbent=incumbent,
        challenger_quality=Quality(
            ndcg_at_10=Interval(0.1, 0.2, 0.3),
            auc=Interval(0.4, 0.5, 0.6),
            calibration_error=0.07,
        ),
        incumbent_quality=Quality(
            ndcg_at_10=Interval(0.01, 0.02, 0.03),
            auc=Interval(0.04, 0.05, 0.06),
            calibration_error=None,
        ),
        ndcg_at_10_gain=Interval(-0.1, 0.0, 0.1),
        auc_gain=Interval(1e-9, 1 / 3, 0.9),
        seekers_count=30,
        outcomes_count=900,
        rules=(
            Rule("seekers", promoted, 30, 20, "30 seekers were ranked; at least 20 are needed."),
            Rule("auc", promoted, 1 / 3, -0.005, "AUC gains +0.3333; it may lose 0.005 at most."),
        ),
        counterfactual=COUNTERFACTUAL if promoted else None,
    )


def head_for(run: Run, create_time: datetime.datetime = MOMENT, parent: str = "") -> Head:
    """The head that a run makes."""
    return Head(
        tenant=run.job.tenant,
        domain=run.job.domain,
        head=head_of(run.job, run.run_id),
        run_id=run.run_id,
        parent=parent,
        manifest_digest="ab" * 32,
        verdict=verdict_of(parent or GENERAL),
        create_time=create_time,
    )


def point_of(step: int, loss: float = 0.5, stage: str = "cross") -> LossPoint:
    """One evaluation during training."""
    return LossPoint(step, loss, 1 - loss, stage)


def heartbeat_of(
    *points: LossPoint,
    phase: State = State.RUNNING,
    steps: int = 10,
    snapshot_digest: str = "",
    checkpoint_digest: str = "",
    dataset: FileDataset | None = None,
    checkpoints: Sequence[Checkpoint] = (),
) -> Heartbeat:
    """A trainer's report."""
    return Heartbeat(
        phase=phase,
        steps_done_count=steps,
        steps_count=100,
        loss_points=points,
        snapshot_digest=snapshot_digest,
        checkpoint_digest=checkpoint_digest,
        dataset=dataset,
        checkpoints=checkpoints,
    )


async def queue(store: SchedulerStore, domain: str = DOMAIN, tenant: str = TENANT) -> Run:
    """Queues a run."""
    async with store.begin(EVERYONE) as unit:
        return await unit.add_run(job_of(domain, tenant))


async def queue_files(store: SchedulerStore, job: Job | None = None) -> Run:
    """Queues a run from files."""
    async with store.begin(EVERYONE) as unit:
        return await unit.add_run(job or file_job_of())


async def lease(store: SchedulerStore, seconds: float = LONG_SECONDS) -> Run:
    """Leases the oldest queued run, which there must be."""
    async with store.begin(EVERYONE) as unit:
        found = await lease_run(unit, "trainer-1", seconds)
    assert found is not None
    return found.run


async def beat(store: SchedulerStore, run: Run, heartbeat: Heartbeat) -> bool:
    """Reports as the holder of the run's lease; False says to drop the run."""
    async with store.begin(EVERYONE) as unit:
        key = (run.job.tenant, run.run_id, run.token)
        told = await heartbeat_run(unit, *key, seconds=LONG_SECONDS, heartbeat=heartbeat)
    return told is not Directive.CANCEL


async def move(store: SchedulerStore, run: Run, state: State) -> Run:
    """Moves a run as it stands now."""
    async with store.begin(EVERYONE) as unit:
        now = await unit.lock_run(run.job.tenant, run.run_id)
        assert now is not None
        return await unit.move_run(now, state)


async def bring_to(store: SchedulerStore, run: Run, state: State) -> Run:
    """Brings a queued run to a state, by the shortest way."""
    if state is State.QUEUED:
        return run
    if state in {State.CANCELLED, State.PAUSED}:
        return await move(store, run, state)
    async with store.begin(EVERYONE) as unit:
        now = await unit.lock_run(run.job.tenant, run.run_id)
        assert now is not None
        leased = await unit.start_lease(now, "trainer-1", LONG_SECONDS, "")
    if state is State.STOPPED:
        leased = await move(store, leased, State.STOPPING)
    return leased if state is State.STARTING else await move(store, leased, state)


async def complete(
    store: SchedulerStore, run: Run, *, promoted: bool = True, result: FileResult | None = None
) -> Verdict:
    """Ends a leased run with a head that was measured against the run's incumbent."""
    async with store.begin(EVERYONE) as unit:
        return await complete_run(
            unit,
            CLOCK,
            tenant=run.job.tenant,
            run_id=run.run_id,
            token=run.token,
            manifest_digest="cd" * 32,
            verdict=verdict_of(run.incumbent or GENERAL, promoted=promoted),
            result=result,
        )


async def make_head(
    store: SchedulerStore, domain: str = DOMAIN, tenant: str = TENANT, *, promoted: bool = True
) -> Head:
    """Queues, leases and completes a run, and returns its head."""
    await queue(store, domain, tenant)
    run = await lease(store)
    assert (run.job.tenant, run.job.domain) == (tenant, domain), "another run was queued before"
    await complete(store, run, promoted=promoted)
    async with store.begin(EVERYONE) as unit:
        head = await unit.find_head(tenant, domain, head_of(run.job, run.run_id))
    assert head is not None
    return head


async def run_of(store: SchedulerStore, run: Run) -> Run:
    """The run as it stands now."""
    found = await store.read_run(run.job.tenant, run.run_id)
    assert found is not None
    return found
