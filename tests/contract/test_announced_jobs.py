"""How the end of fine-tuning jobs is told, in dictionaries and in PostgreSQL."""

import dataclasses
import datetime
import json
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import pytest

from services.chassis.clock import ManualClock
from services.chassis.database import open_database
from services.gateway.core import announce_jobs as announcing
from services.gateway.core.announce_jobs import ENDS, announce_jobs
from services.gateway.core.errors import SchedulerUnavailableError
from services.gateway.core.manage_endpoints import create_endpoint
from services.gateway.core.ports import JobStore, WebhookStore
from services.gateway.core.run import InputFile, Run, RunState, Wish
from services.gateway.core.tuning_job import TuningJob
from services.gateway.core.webhook import EVENT_TYPES, Delivery
from services.gateway.memory import MemoryFileStore, MemoryJobStore, MemoryWebhookStore
from services.gateway.postgres import MIGRATIONS, PostgresJobStore, PostgresWebhookStore
from tests.support.infrastructure import Servers

NOW = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
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


@dataclass
class Desk:
    """Jobs of acme, their runs, and an endpoint that wants to hear of everything."""

    jobs: JobStore
    webhooks: WebhookStore
    runs: FakeRuns
    endpoint_id: str = ""

    async def ask(self, number: int, state: RunState) -> TuningJob:
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
            given={},
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
        await announce_jobs(self.jobs, self.runs, self.webhooks)  # type: ignore[arg-type]
        found = await self.webhooks.list_deliveries(self.endpoint_id, state="", limit=99)
        return sorted(found, key=lambda each: str(json.loads(each.body)["data"]["id"]))


@pytest.fixture(params=["memory", "postgres"])
async def desk(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Desk]:
    if request.param == "memory":
        yield await _furnish(MemoryJobStore(MemoryFileStore()), MemoryWebhookStore())
        return
    async with (
        servers.schema() as schema,
        open_database(servers.postgres_dsn, schema, MIGRATIONS) as pool,
    ):
        yield await _furnish(PostgresJobStore(pool), PostgresWebhookStore(pool))


async def _furnish(jobs: JobStore, webhooks: WebhookStore) -> Desk:
    endpoint = await create_endpoint(
        webhooks,
        ManualClock(NOW),
        tenant="acme",
        name="n",
        url="https://acme.example/",
        event_types=EVENT_TYPES,
    )
    return Desk(jobs, webhooks, FakeRuns(), endpoint.endpoint_id)


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
