"""Fine-tuning jobs over stores and a scheduler that a test owns."""

import dataclasses
import datetime
from collections.abc import AsyncIterator, Collection
from typing import Any

from services.chassis.artifacts import memory_artifacts
from services.chassis.clock import ManualClock
from services.gateway.core.create_file import create_file, receive
from services.gateway.core.create_job import Request, create_job
from services.gateway.core.errors import SchedulerUnavailableError
from services.gateway.core.ports import FileStore, JobStore
from services.gateway.core.run import (
    Checkpoint,
    Hyperparameters,
    Method,
    Model,
    Run,
    RunEvent,
    RunState,
    Verb,
    Wish,
)
from services.gateway.core.tuning_job import TuningJob

NOW = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
_AFTER = {
    Verb.CANCEL: RunState.CANCELLED,
    Verb.PAUSE: RunState.PAUSED,
    Verb.RESUME: RunState.QUEUED,
    Verb.STOP: RunState.STOPPING,
}


class RefusedError(Exception):
    """The scheduler does not want the run."""


class FakeRuns:
    """A scheduler that knows a wish that comes again, as the real one does."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.wishes: dict[str, Wish] = {}
        self.away = False
        self.refuses = False
        self.questions_count = 0
        """About many runs at once."""

    async def create(self, tenant: str, wish: Wish) -> Run:
        self._answer()
        if self.refuses:
            raise RefusedError
        for run_id, known in self.wishes.items():
            if known == wish:
                return self.runs[run_id]
        run = Run(run_id=f"tr_{len(self.runs)}", state=RunState.QUEUED)
        self.runs[run.run_id], self.wishes[run.run_id] = run, wish
        return run

    async def get(self, tenant: str, run_id: str) -> Run:
        self._answer()
        return self.runs[run_id]

    async def get_all(self, tenant: str, run_ids: Collection[str]) -> dict[str, Run]:
        self._answer()
        self.questions_count += 1
        return {run_id: self.runs[run_id] for run_id in run_ids}

    async def steer(self, tenant: str, run_id: str, verb: Verb) -> Run:
        self._answer()
        return self.become(run_id, state=_AFTER[verb])

    async def list_events(
        self, tenant: str, run_id: str, after: str, limit: int
    ) -> tuple[list[RunEvent], bool]:
        return [], False

    async def list_checkpoints(self, tenant: str, run_id: str) -> list[Checkpoint]:
        return []

    async def get_model(self, tenant: str, model: str) -> Model:
        return Model(model=model, owner="", create_time=None)

    async def list_models(self, tenant: str) -> list[Model]:
        return []

    async def delete_model(self, tenant: str, model: str) -> None:
        return None

    def become(self, run_id: str, **changes: Any) -> Run:
        """Changes a run."""
        self.runs[run_id] = dataclasses.replace(self.runs[run_id], **changes)
        return self.runs[run_id]

    def _answer(self) -> None:
        if self.away:
            raise SchedulerUnavailableError


class Tuning:
    """Job store, file store and runs, with a clock."""

    def __init__(self, jobs: JobStore, files: FileStore) -> None:
        self.jobs = jobs
        self.files = files
        self.runs = FakeRuns()
        self.contents = memory_artifacts()
        self.clock = ManualClock(NOW)

    async def send(self, purpose: str = "fine-tune", tenant: str = "acme") -> str:
        """Sends a file and returns its id."""
        self.clock.advance(0.001)
        file = await create_file(
            self.files,
            self.contents,
            self.clock,
            tenant=tenant,
            filename="f.jsonl",
            purpose=purpose,
            expires_after_seconds=None,
            content=await receive(self.files, self.contents, self.clock, _one_chunk()),
        )
        return file.file_id

    async def ask(
        self, file_id: str, *, tenant: str = "acme", key: str = "", name: str = "", **changes: Any
    ) -> tuple[TuningJob, Run]:
        """Asks for a job."""
        self.clock.advance(0.001)
        return await create_job(
            self.jobs,
            self.files,
            self.runs,
            self.clock,
            tenant=tenant,
            request=dataclasses.replace(wish_for(file_id), **changes),
            request_key=key,
            name=name,
        )


def wish_for(file_id: str) -> Request:
    """The plainest request."""
    return Request(
        base_model="trine-general",
        training_file_id=file_id,
        validation_file_id=None,
        method=Method.AUTO,
        hyperparameters=Hyperparameters(),
        suffix=None,
        seed=None,
        given={},
        metadata=None,
    )


async def _one_chunk() -> AsyncIterator[bytes]:
    yield b"{}\n"
