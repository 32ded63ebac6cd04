"""/v0.6/fine_tuning/jobs: the newer words for jobs, near to OpenAI's, on the same jobs.

Its methods "head" and "knn" label windows of sensor data, of which there are none here: what is
learned from are lines. Known is what one client does: create, read, events and checkpoints.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from aiohttp import web

from services.gateway.core.create_job import create_job
from services.gateway.core.errors import FieldInvalidError, JobNotFoundError
from services.gateway.core.ports import Clock, FileStore, JobStore, Runs
from services.gateway.core.read_job import Jobs
from services.gateway.core.run import MADE, Run, RunEvent
from services.gateway.core.tuning_job import JOB_ID, TuningJob
from services.gateway.facades.archetype.answers import Json, answer, iso
from services.gateway.facades.archetype.files import find_file
from services.gateway.facades.archetype.jobs import read_name, write_metrics
from services.gateway.facades.archetype.requests import read_list
from services.gateway.facades.archetype.statuses import TUNING_STATUSES
from services.gateway.facades.openai.wishes import read_wish
from services.gateway.facades.requests import read_body, read_limit, read_text, refuse_unknown
from services.gateway.http import Call, Route

ID = "ftj_"
CHECKPOINT_ID = "ckp_"
EVENTS_PAGE = 20
EVENTS_PAGE_MAX = 100
FORMAT = "jsonl"
_FIELDS = ("method", "model", "name", "seed", "training_files", "validation_files")


class Tuning:
    """Jobs."""

    def __init__(self, store: JobStore, files: FileStore, runs: Runs, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._runs = runs
        self._clock = clock
        self._jobs = Jobs(store, runs, clock)

    def routes(self) -> list[Route]:
        """What is answered here."""
        job = "/fine_tuning/jobs/{job_id}"
        return [
            Route("POST", "/fine_tuning/jobs", "runs:write", self.create),
            Route("GET", job, "runs:read", self.retrieve),
            Route("GET", f"{job}/events", "runs:read", self.list_events),
            Route("GET", f"{job}/checkpoints", "runs:read", self.list_checkpoints),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        """The same body within ten minutes answers the first job."""
        body = await read_body(call.request, _FIELDS)
        name = read_name(body)
        wish = {key: body.get(key) for key in ("method", "model", "seed")}
        wish["training_file"] = await self._read_file(call.tenant, body, "training_files")
        if body.get("validation_files"):
            wish["validation_file"] = await self._read_file(call.tenant, body, "validation_files")
        request = read_wish(wish, "")
        request = dataclasses.replace(request, given={**request.given, "name": name})
        standing = await create_job(
            self._store,
            self._files,
            self._runs,
            self._clock,
            tenant=call.tenant,
            request=request,
            request_key="",
        )
        return answer(_record(standing))

    async def retrieve(self, call: Call) -> web.StreamResponse:
        return answer(_record(await self._jobs.read(call.tenant, _job_id(call))))

    async def list_events(self, call: Call) -> web.StreamResponse:
        """Newest first."""
        limit = read_limit(call.request, EVENTS_PAGE, EVENTS_PAGE_MAX)
        job = await self._jobs.find(call.tenant, _job_id(call))
        events: Sequence[RunEvent] = []
        if job.run_id:
            events, _ = await self._runs.list_events(job.tenant, job.run_id, "", limit)
        return answer({"data": [_event(job, event) for event in events]})

    async def list_checkpoints(self, call: Call) -> web.StreamResponse:
        """Newest first; each is a model by its name."""
        job = await self._jobs.find(call.tenant, _job_id(call))
        found = []
        if job.run_id:
            found = await self._runs.list_checkpoints(job.tenant, job.run_id)
        data = [
            {
                "id": f"{CHECKPOINT_ID}{_digits(job)}-{checkpoint.measured.step}",
                "name": checkpoint.model,
                "step": checkpoint.measured.step,
                "created_at": iso(checkpoint.create_time),
                "metrics": write_metrics(job, checkpoint),
            }
            for checkpoint in found
        ]
        return answer({"data": data})

    async def _read_file(self, tenant: str, body: Json, field: str) -> str:
        """The id of the one file of a list."""
        (content,) = read_list(body, field, "", 1)
        inside = f"{field}[0]."
        refuse_unknown(content, ("file_id", "format"), inside)
        if content.get("format", FORMAT) != FORMAT:
            raise FieldInvalidError(f"{inside}format", FORMAT)
        file_id = read_text(content, "file_id", inside)
        now = self._clock.now()
        return (await find_file(self._files, tenant, file_id, f"{inside}file_id", now)).file_id


def _job_id(call: Call) -> str:
    given = call.request.match_info["job_id"]
    if not given.startswith(ID):
        raise JobNotFoundError(given)
    return JOB_ID + given.removeprefix(ID)


def _digits(job: TuningJob) -> str:
    return job.job_id.removeprefix(JOB_ID)


def _record(standing: tuple[TuningJob, Run]) -> Json:
    job, run = standing
    method: Mapping[str, object] | None = job.given.get("method")
    failure = run.failure
    return {
        "id": f"{ID}{_digits(job)}",
        "object": "fine_tuning.job",
        "name": job.given.get("name"),
        "model": job.wish.base_model,
        "method": method,
        "seed": job.wish.seed,
        "status": TUNING_STATUSES[run.state],
        "training_files": _files(job.training_file_id),
        "validation_files": _files(job.validation_file_id),
        "fine_tuned_model": job.wish.model if run.state in MADE else None,
        "error": failure and {"code": failure.reason.lower(), "message": failure.message},
        "created_at": iso(job.create_time),
        "finished_at": iso(run.end_time) if run.end_time else None,
    }


def _files(file_id: str | None) -> list[Json]:
    return [] if file_id is None else [{"file_id": file_id, "format": FORMAT}]


def _event(job: TuningJob, event: RunEvent) -> Json:
    return {
        "id": f"{ID}{_digits(job)}-{event.event_id}",
        "created_at": iso(event.create_time),
        "level": event.level,
        "type": "message" if event.measured is None else "metrics",
        "message": event.message,
    }
