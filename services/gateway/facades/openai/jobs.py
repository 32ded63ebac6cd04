"""/fine_tuning/jobs: jobs, their events and checkpoints."""

import math
import re
from datetime import timedelta

from aiohttp import web

from services.gateway.core.create_job import create_job
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.ids import check_after
from services.gateway.core.page import Page, page_of
from services.gateway.core.ports import Clock, FileStore, JobStore, Runs, RunTracker
from services.gateway.core.read_job import Jobs
from services.gateway.core.run import (
    MADE,
    Checkpoint,
    Failure,
    Hyperparameters,
    Measured,
    Method,
    Run,
    RunEvent,
    Verb,
)
from services.gateway.core.tracked_run import tracked_id
from services.gateway.core.tuning_job import JOB_ID, TuningJob
from services.gateway.facades.openai.answers import Json, answer, envelope, unix
from services.gateway.facades.openai.statuses import Words, status_of
from services.gateway.facades.openai.wishes import (
    AUTO,
    FIELDS,
    METADATA_HEADER,
    check_integrations,
    read_wish,
)
from services.gateway.facades.requests import read_body, read_limit
from services.gateway.http import Call, Route

PAGE_MAX = 100
JOBS_PAGE = 20
EVENTS_PAGE = 20
CHECKPOINTS_PAGE = 10
EVENT_ID = "ftevent-"
CHECKPOINT_ID = "ftckpt_"
RESOLVED_MODEL = "x-tfy-resolved-model"
_METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_FILES = {"INVALID_TRAINING_FILE": "training_file", "INVALID_VALIDATION_FILE": "validation_file"}


class FineTuning:
    """Fine-tuning jobs in the words of one dialect."""

    def __init__(
        self,
        store: JobStore,
        files: FileStore,
        runs: Runs,
        clock: Clock,
        *,
        tracker: RunTracker,
        words: Words,
    ) -> None:
        self._store = store
        self._files = files
        self._runs = runs
        self._clock = clock
        self._tracker = tracker
        self._words = words
        self._jobs = Jobs(store, runs, clock)

    def routes(self) -> list[Route]:
        """What is answered here."""
        jobs, job = "/fine_tuning/jobs", "/fine_tuning/jobs/{job_id}"
        return [
            Route("POST", jobs, "runs:write", self.create),
            Route("GET", jobs, "runs:read", self.list),
            Route("GET", job, "runs:read", self.retrieve),
            Route("POST", f"{job}/cancel", "runs:write", self.cancel),
            Route("POST", f"{job}/pause", "runs:write", self.pause),
            Route("POST", f"{job}/resume", "runs:write", self.resume),
            Route("GET", f"{job}/events", "runs:read", self.list_events),
            Route("GET", f"{job}/checkpoints", "runs:read", self.list_checkpoints),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        """The same wish within ten minutes answers the first job: clients repeat in silence."""
        body = await read_body(call.request, FIELDS)
        check_integrations(body, installed=self._tracker.installed)
        headers = call.request.headers
        job, run = await create_job(
            self._store,
            self._files,
            self._runs,
            self._clock,
            tenant=call.tenant,
            request=read_wish(body, headers.get(METADATA_HEADER, "")),
            request_key=headers.get("idempotency-key", ""),
        )
        resolved = {RESOLVED_MODEL: job.wish.base_model}
        return answer(self._write((job, run)), headers=resolved)

    async def list(self, call: Call) -> web.StreamResponse:
        after = call.request.query.get("after", "")
        check_after(JOB_ID, after)
        query = call.request.query
        metadata = {
            match[1]: value for name, value in query.items() if (match := _METADATA.fullmatch(name))
        }
        if "metadata" in query and query["metadata"] not in ("", "null"):
            raise FieldInvalidError("metadata", "null, or pairs as metadata[key]=value")
        page = await self._jobs.list(
            call.tenant,
            after=after,
            limit=read_limit(call.request, JOBS_PAGE, PAGE_MAX),
            metadata=metadata,
            bare="metadata" in query,
        )
        return answer(envelope(page, self._write, ids=False))

    async def retrieve(self, call: Call) -> web.StreamResponse:
        return answer(self._write(await self._jobs.read(call.tenant, _job_id(call))))

    async def cancel(self, call: Call) -> web.StreamResponse:
        return await self._steer(call, Verb.CANCEL)

    async def pause(self, call: Call) -> web.StreamResponse:
        return await self._steer(call, Verb.PAUSE)

    async def resume(self, call: Call) -> web.StreamResponse:
        return await self._steer(call, Verb.RESUME)

    async def list_events(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, EVENTS_PAGE, PAGE_MAX)
        job = await self._jobs.find(call.tenant, _job_id(call))
        prefix = f"{EVENT_ID}{job.job_id.removeprefix(JOB_ID)}-"
        after = call.request.query.get("after", "")
        if after and not after.startswith(prefix):
            raise FieldInvalidError("after", f"the id of an event of the job, such as {prefix}…")
        events: Page[RunEvent] = Page([], has_more=False)
        if job.run_id:
            events = Page(
                *await self._runs.list_events(
                    job.tenant, job.run_id, after.removeprefix(prefix), limit
                )
            )
        return answer(envelope(events, lambda event: _event(prefix, event), ids=False))

    async def list_checkpoints(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, CHECKPOINTS_PAGE, PAGE_MAX)
        job = await self._jobs.find(call.tenant, _job_id(call))
        found = []
        if job.run_id:
            found = await self._runs.list_checkpoints(job.tenant, job.run_id)
        written = [_checkpoint(job, checkpoint) for checkpoint in found]
        after = call.request.query.get("after", "")
        if after:
            ids = [checkpoint["id"] for checkpoint in written]
            if after not in ids:
                raise FieldInvalidError("after", "the id of a checkpoint of the job")
            written = written[ids.index(after) + 1 :]
        return answer(envelope(page_of(written, limit), lambda content: content, ids=True))

    async def _steer(self, call: Call, verb: Verb) -> web.StreamResponse:
        return answer(self._write(await self._jobs.steer(call.tenant, _job_id(call), verb)))

    def _write(self, standing: tuple[TuningJob, Run]) -> Json:
        job, run = standing
        status = status_of(self._words, run)
        used = run.result.hyperparameters if run.result else job.wish.hyperparameters
        method = run.method or job.wish.method
        left = timedelta(minutes=run.minutes_left)
        return {
            "id": job.job_id,
            "object": "fine_tuning.job",
            "created_at": unix(job.create_time),
            "error": None if run.failure is None else _failure(run.failure),
            "fine_tuned_model": job.wish.model if run.state in MADE else None,
            "finished_at": unix(run.end_time),
            "hyperparameters": _hyperparameters(used, Method.SUPERVISED),
            "model": job.wish.base_model,
            "organization_id": job.tenant,
            "result_files": [job.result_file_id] if job.result_file_id else [],
            "status": status,
            "trained_tokens": run.result.trained_tokens_count if run.result else None,
            "training_file": job.training_file_id,
            "validation_file": job.validation_file_id,
            "seed": job.wish.seed,
            "estimated_finish": unix(self._clock.now() + left) if status == "running" else None,
            "integrations": _integrations(job),
            "method": {
                "type": method,
                method: {"hyperparameters": _hyperparameters(used, method)},
            }
            if method
            else None,
            "metadata": None if job.metadata is None else dict(job.metadata),
        }


def _job_id(call: Call) -> str:
    return call.request.match_info["job_id"]


def _integrations(job: TuningJob) -> list[Json] | None:
    """As they were given, and what the runs are called there."""
    given: list[Json] | None = job.given.get("integrations")
    if given is None:
        return None
    return [
        {**each, each["type"]: {**each[each["type"]], "run_id": tracked_id(job, index)}}
        for index, each in enumerate(given)
    ]


def _failure(failure: Failure) -> Json:
    return {
        "code": failure.reason.lower(),
        "message": failure.message,
        "param": _FILES.get(failure.reason),
    }


def _hyperparameters(chosen: Hyperparameters, method: Method) -> Json:
    content = {
        "batch_size": chosen.batch_size or AUTO,
        "learning_rate_multiplier": chosen.learning_rate_multiplier or AUTO,
        "n_epochs": chosen.n_epochs or AUTO,
    }
    return content | ({"beta": chosen.beta or AUTO} if method is Method.DPO else {})


def _event(prefix: str, event: RunEvent) -> Json:
    return {
        "id": f"{prefix}{event.event_id}",
        "object": "fine_tuning.job.event",
        "created_at": unix(event.create_time),
        "level": event.level,
        "message": event.message,
        "type": "message" if event.measured is None else "metrics",
        "data": None if event.measured is None else _metrics(event.measured),
    }


def _checkpoint(job: TuningJob, checkpoint: Checkpoint) -> Json:
    step = checkpoint.measured.step
    return {
        "id": f"{CHECKPOINT_ID}{job.job_id.removeprefix(JOB_ID)}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": unix(checkpoint.create_time),
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": job.job_id,
        "step_number": step,
        "metrics": _metrics(checkpoint.measured),
    }


def _metrics(measured: Measured) -> Json:
    """The held-out lines are measured as a whole each time; NDCG@10 is a word of ours."""
    values = {
        "step": measured.step,
        "train_loss": measured.training_loss,
        "valid_loss": measured.validation_loss,
        "full_valid_loss": measured.validation_loss,
        "ndcg_at_10": measured.validation_ndcg_at_10,
    }
    return {
        name: value for name, value in values.items() if value is not None and math.isfinite(value)
    }
