"""How the end of fine-tuning jobs is told, in dictionaries and in PostgreSQL."""

import dataclasses
import datetime
import json
import math
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any, cast

import pytest

from services.chassis.clock import ManualClock
from services.gateway.core import announce_jobs as announcing
from services.gateway.core.announce_jobs import ENDS, announce_jobs
from services.gateway.core.errors import SchedulerUnavailableError
from services.gateway.core.manage_endpoints import create_endpoint
from services.gateway.core.ports import JobStore, Runs, WebhookStore
from services.gateway.core.run import InputFile, Measured, Run, RunEvent, RunState, Wish
from services.gateway.core.track_run import track_jobs
from services.gateway.core.tracked_run import TrackedRun, tracked_id
from services.gateway.core.tuning_job import TuningJob
from services.gateway.core.webhook import EVENT_TYPES, Delivery, Endpoint
from services.gateway.memory import MemoryFileStore, MemoryJobStore, MemoryWebhookStore
from services.gateway.postgres import MIGRATIONS, PostgresJobStore, PostgresWebhookStore
from tests.support.infrastructure import Servers

NOW = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
MEASURED: dict[str, Any] = {
    "training_loss": 0.5,
    "validation_loss": None,
    "validation_ndcg_at_10": math.nan,
}
PROJECT = {"project": "p"}
OPEN = [state for state in RunState if state not in ENDS]


class FakeRuns:
    """A scheduler that knows some runs; of the port, only what is asked here."""

    def __init__(self) -> None:
        self.states: dict[str, RunState] = {}
        self.asked: list[int] = []
        """About how many runs, each time."""
        self.away = False

    async def get_all(self, tenant: str, run_ids: Collection[str]) -> dict[str, Run]:
        """Returns runs."""
        if self.away:
            raise SchedulerUnavailableError
        self.asked.append(len(run_ids))
        states = {run_id: self.states[run_id] for run_id in run_ids}
        return {
            run_id: Run(run_id=run_id, state=state, end_time=NOW if state in ENDS else None)
            for run_id, state in states.items()
        }

    async def list_events(
        self, tenant: str, run_id: str, after: str, limit: int
    ) -> tuple[list[RunEvent], bool]:
        """Returns two evaluations and the end, newest first."""
        points = [None, Measured(**MEASURED, step=8), Measured(**MEASURED, step=4)]
        return [
            RunEvent(event_id=f"e{n}", create_time=NOW, level="info", message="m", measured=point)
            for n, point in enumerate(points)
        ], False


class FakeTracker:
    """Keeps what it is told."""

    installed = True

    def __init__(self) -> None:
        self.written: list[TrackedRun] = []
        self.refused: set[str] = set()

    async def write(self, tracked: TrackedRun) -> bool:
        """Keeps a run."""
        self.written.append(tracked)
        return tracked.run_id not in self.refused


@dataclass
class Desk:
    """Jobs of acme, their runs, and an endpoint that wants to hear of everything."""

    jobs: JobStore
    webhooks: WebhookStore
    runs: FakeRuns
    tracker: FakeTracker
    endpoint: Endpoint

    async def ask(self, number: int, state: RunState, **given: Any) -> TuningJob:
        """Makes a job whose run is in some state."""
        file = InputFile("a" * 64, 1)
        wish = Wish(
            training_file=file, validation_file=None, base_model="b", model=f"m{number}", seed=0
        )
        job = TuningJob(
            tenant="acme",
            job_id=f"ftjob-{number:024x}",
            wish=wish,
            training_file_id="file-1",
            validation_file_id=None,
            given=given,
            metadata=None,
            create_time=NOW,
            fingerprint=bytes([number]),
            request_key="",
        )
        await self.jobs.add_job(job)
        await self.jobs.set_run(job, f"run-{number}")
        self.runs.states[f"run-{number}"] = state
        return dataclasses.replace(job, run_id=f"run-{number}")

    async def tell(self) -> list[Delivery]:
        """Announces what has ended; returns what is on its way, oldest id first."""
        runs: Any = self.runs
        await announce_jobs(self.jobs, runs, self.webhooks)
        found = await self.webhooks.list_deliveries(self.endpoint, state="", after="", limit=99)
        return sorted(found, key=lambda each: str(json.loads(each.body)["data"]["id"]))

    async def track(self, hours: int = 0) -> list[str]:
        """Has what has ended kept, so long after the end; returns what the tracker was told."""
        runs, clock = self.runs, ManualClock(NOW + datetime.timedelta(hours=hours))
        self.tracker.written.clear()
        await track_jobs(self.jobs, cast("Runs", runs), self.tracker, clock)
        return [tracked.run_id for tracked in self.tracker.written]


@pytest.fixture(params=["memory", "postgres"])
async def desk(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Desk]:
    if request.param == "memory":
        yield await _furnish(MemoryJobStore(MemoryFileStore()), MemoryWebhookStore())
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield await _furnish(PostgresJobStore(database), PostgresWebhookStore(database))


async def _furnish(jobs: JobStore, webhooks: WebhookStore) -> Desk:
    endpoint = await create_endpoint(
        webhooks,
        ManualClock(NOW),
        tenant="acme",
        name="n",
        url="https://acme.example/",
        event_types=EVENT_TYPES,
    )
    return Desk(jobs, webhooks, FakeRuns(), FakeTracker(), endpoint)


@pytest.mark.parametrize("state", ENDS)
async def test_the_end_of_a_job_is_told_once(desk: Desk, state: RunState) -> None:
    job = await desk.ask(1, state)

    (told,) = await desk.tell()
    assert told.event_type == ENDS[state]
    assert json.loads(told.body)["data"] == {"id": job.job_id}
    assert await desk.tell() == [told]
    assert await desk.jobs.list_unannounced(after="", limit=9) == []


@pytest.mark.parametrize("state", OPEN)
async def test_a_job_that_goes_on_is_not_told_of_until_it_ends(desk: Desk, state: RunState) -> None:
    await desk.ask(1, state)
    assert await desk.tell() == []

    desk.runs.states["run-1"] = RunState.FAILED
    (told,) = await desk.tell()
    assert told.event_type == "fine_tuning.job.failed"


async def test_jobs_beyond_a_page_of_open_ones_are_told_of_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "ASKED_MAX", 2)
    for number in range(5):
        await desk.ask(number, RunState.PAUSED)
    await desk.ask(5, RunState.SUCCEEDED)

    (told,) = await desk.tell()
    assert told.event_type == "fine_tuning.job.succeeded"
    assert desk.runs.asked == [2, 2, 2]


async def test_nothing_is_lost_while_the_scheduler_is_away(desk: Desk) -> None:
    await desk.ask(1, RunState.SUCCEEDED)
    desk.runs.away = True
    with pytest.raises(SchedulerUnavailableError):
        await desk.tell()

    desk.runs.away = False
    assert len(await desk.tell()) == 1


@pytest.mark.parametrize("state", ENDS)
async def test_what_a_run_has_measured_is_kept_where_its_job_asks_for_it(
    desk: Desk, state: RunState
) -> None:
    wanted = [{"type": "wandb", "wandb": {"project": name, "tags": ["t"]}} for name in "ab"]
    job = await desk.ask(1, state, integrations=wanted)
    await desk.ask(2, state, integrations=None)
    assert await desk.track() == []  # its end is told first
    await desk.tell()
    assert await desk.track() == [tracked_id(job, 0), tracked_id(job, 1)]
    first, second = desk.tracker.written
    assert (first.tenant, first.project, second.project, first.name) == ("acme", "a", "b", None)
    assert first.measured == [{"step": step, "train_loss": 0.5} for step in (4, 8)]
    assert first.config == {"model": "b", "seed": 0}
    assert first.succeeded == (state in {RunState.SUCCEEDED, RunState.STOPPED})


async def test_what_the_tracker_does_not_take_is_tried_again_for_a_day(desk: Desk) -> None:
    wanted = [{"type": "wandb", "wandb": PROJECT}]
    refused = await desk.ask(1, RunState.FAILED, integrations=wanted)
    taken = await desk.ask(2, RunState.FAILED, integrations=wanted)
    desk.tracker.refused = {tracked_id(refused, 0)}
    assert len(await desk.tell()) == 2
    assert await desk.track() == [tracked_id(refused, 0), tracked_id(taken, 0)]
    assert await desk.track(hours=24) == [tracked_id(refused, 0)]
    assert await desk.track(hours=25) == [tracked_id(refused, 0)]
    assert await desk.track(hours=26) == []


async def test_what_the_tracker_takes_late_is_kept_once(desk: Desk) -> None:
    job = await desk.ask(1, RunState.FAILED, integrations=[{"type": "wandb", "wandb": PROJECT}])
    await desk.tell()
    desk.tracker.refused = {tracked_id(job, 0)}
    await desk.track()
    desk.tracker.refused = set()
    assert await desk.track() == [tracked_id(job, 0)]
    assert await desk.track() == []


async def test_a_repeat_after_a_crash_makes_the_same_event(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.ask(1, RunState.SUCCEEDED)

    async def crash(_job: TuningJob) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(desk.jobs, "set_announced", crash)
        with pytest.raises(ConnectionError):
            await desk.tell()

    assert len(await desk.tell()) == 1
