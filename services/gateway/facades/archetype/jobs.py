"""/fine-tune/jobs: jobs that callers find by ids of their own."""

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.gateway.core.create_job import Request, create_job
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.file import File
from services.gateway.core.ports import Clock, FileStore, JobStore, Runs
from services.gateway.core.read_job import Jobs
from services.gateway.core.run import MADE, Checkpoint, Hyperparameters, Method, Run, Verb
from services.gateway.core.tuning_job import TuningJob
from services.gateway.facades.archetype.answers import Json, answer, iso, typed_id
from services.gateway.facades.archetype.files import find_file
from services.gateway.facades.archetype.requests import read_count, read_list
from services.gateway.facades.archetype.statuses import KNOWN, STATUSES
from services.gateway.facades.requests import (
    read_body,
    read_object,
    read_optional_text,
    read_text,
    read_texts,
    refuse_unknown,
)
from services.gateway.http import Call, Route

JOBS_MAX = 1_000
"""So many of the newest jobs are looked through for a list."""
JOBS_AT_ONCE = 100
METRICS_MAX = 10_000
NAME_CHARACTERS_MAX = 255
ID_CHARACTERS_MAX = 64
DATASETS_MAX = 16
TRAIN, EVAL = "train", "eval"
_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{ID_CHARACTERS_MAX}}}")
_MADE_ID = "ft-job-"
_MADE_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Dataset:
    """Files to learn from, or to be judged by."""

    name: str
    split: str
    files: Sequence[File]


class FineTune:
    """Fine-tune jobs."""

    def __init__(self, store: JobStore, files: FileStore, runs: Runs, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._runs = runs
        self._clock = clock
        self._jobs = Jobs(store, runs, clock)

    def routes(self) -> list[Route]:
        """What is answered here."""
        jobs, job = "/fine-tune/jobs", "/fine-tune/jobs/{id}"
        return [
            Route("POST", jobs, "runs:write", self.create),
            Route("GET", jobs, "runs:read", self.list),
            Route("GET", job, "runs:read", self.retrieve),
            Route("GET", f"{job}/metrics", "runs:read", self.metrics),
            Route("PUT", f"{job}/stop", "runs:write", self.stop),
            Route("PUT", f"{job}/cancel", "runs:write", self.cancel),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        """The same id, or the same body within ten minutes, answers the first job."""
        body = await read_body(call.request, ("name", "id", "config"))
        name, chosen = read_name(body), _read_id(body)
        config = read_object(body, "config")
        if config is None:
            raise FieldInvalidError("config", "an object")
        refuse_unknown(config, ("model", "datasets"), "config.")
        model = read_text(config, "model", "config.")
        datasets = await self._read_datasets(call.tenant, config)
        train, held_out = _one(datasets, TRAIN), _one(datasets, EVAL)
        if train is None:
            raise FieldInvalidError("config.datasets", f"one file of the split {TRAIN}")
        given = {
            "name": name,
            "id": chosen,
            "datasets": [
                {
                    "name": dataset.name,
                    "split": dataset.split,
                    "file_ids": [file.filename for file in dataset.files],
                }
                for dataset in datasets
            ],
        }
        standing = await create_job(
            self._store,
            self._files,
            self._runs,
            self._clock,
            tenant=call.tenant,
            request=Request(
                base_model=model,
                training_file_id=train.file_id,
                validation_file_id=None if held_out is None else held_out.file_id,
                method=Method.AUTO,
                hyperparameters=Hyperparameters(),
                suffix=None,
                seed=None,
                given=given,
                metadata=None,
            ),
            request_key="",
            name=chosen or _made_id(name),
        )
        return answer(_record(standing))

    async def list(self, call: Call) -> web.StreamResponse:
        limit = read_count(call.request, "limit", -1, JOBS_MAX)
        offset = read_count(call.request, "offset", 0, JOBS_MAX)
        statuses = set(call.request.query.getall("statuses", []))
        if not statuses <= KNOWN:
            raise FieldInvalidError("statuses", f"each one of {', '.join(sorted(KNOWN))}")
        found: list[Json] = []
        after, more, seen = "", True, 0
        end = JOBS_MAX if limit < 0 else offset + limit
        while more and seen < JOBS_MAX and len(found) < end:
            page = await self._jobs.list(call.tenant, after=after, limit=JOBS_AT_ONCE, named=True)
            records = [_record(standing) for standing in page.items]
            found += [record for record in records if not statuses or record["status"] in statuses]
            seen, more = seen + len(records), page.has_more
            after = page.items[-1][0].job_id if page.items else after
        return answer(found[offset:end])

    async def retrieve(self, call: Call) -> web.StreamResponse:
        job = await self._find(call)
        return answer(_record(await self._jobs.read(job.tenant, job.job_id)))

    async def metrics(self, call: Call) -> web.StreamResponse:
        """What was measured at each checkpoint, oldest first."""
        limit = read_count(call.request, "limit", -1, METRICS_MAX)
        offset = read_count(call.request, "offset", 0, METRICS_MAX)
        job = await self._find(call)
        found: list[Checkpoint] = []
        if job.run_id:
            found = await self._runs.list_checkpoints(job.tenant, job.run_id)
        metrics = [write_metrics(job, checkpoint) for checkpoint in reversed(found)]
        end = METRICS_MAX if limit < 0 else offset + limit
        last = found[0].measured.step if found else None
        return answer({"last_checkpoint_step": last, "metrics": metrics[offset:end]})

    async def stop(self, call: Call) -> web.StreamResponse:
        return await self._steer(call, Verb.STOP)

    async def cancel(self, call: Call) -> web.StreamResponse:
        return await self._steer(call, Verb.CANCEL)

    async def _steer(self, call: Call, verb: Verb) -> web.StreamResponse:
        job = await self._find(call)
        return answer(_record(await self._jobs.steer(job.tenant, job.job_id, verb)))

    async def _find(self, call: Call) -> TuningJob:
        return await self._jobs.find_named(call.tenant, call.request.match_info["id"])

    async def _read_datasets(self, tenant: str, config: Json) -> Sequence[Dataset]:
        datasets = []
        for index, content in enumerate(read_list(config, "datasets", "config.", DATASETS_MAX)):
            inside = f"config.datasets[{index}]."
            refuse_unknown(content, ("name", "split", "file_ids"), inside)
            split = read_text(content, "split", inside)
            if split not in (TRAIN, EVAL):
                raise FieldInvalidError(f"{inside}split", f"{TRAIN} or {EVAL}")
            file_ids = read_texts(content, "file_ids", inside)
            field, now = f"{inside}file_ids", self._clock.now()
            files = [
                await find_file(self._files, tenant, file_id, field, now) for file_id in file_ids
            ]
            datasets.append(Dataset(read_text(content, "name", inside), split, files))
        return datasets


def read_name(body: Json) -> str:
    """What people call a job."""
    name = read_text(body, "name")
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise FieldInvalidError("name", f"1 to {NAME_CHARACTERS_MAX} printable characters")
    return name


def _read_id(body: Json) -> str:
    chosen = read_optional_text(body, "id") or ""
    if chosen and not _ID.fullmatch(chosen):
        rule = f'1 to {ID_CHARACTERS_MAX} of A-Z, a-z, 0-9, ".", "_" and "-"'
        raise FieldInvalidError("id", rule)
    return chosen


def _made_id(name: str) -> str:
    """ft-job-<name>-<8 hex>, the name as far as it fits into a path and 64 characters."""
    left = ID_CHARACTERS_MAX - len(_MADE_ID) - 1 - 2 * _MADE_ID_BYTES
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:left]
    return f"{_MADE_ID}{plain}-{secrets.token_hex(_MADE_ID_BYTES)}"


def _one(datasets: Sequence[Dataset], split: str) -> File | None:
    """The file of a split. Runs read one file to learn and one to judge; more are not joined."""
    files = [file for dataset in datasets if dataset.split == split for file in dataset.files]
    if len(files) > 1:
        rule = f"at most one file of the split {split}: send its lines as one file"
        raise FieldInvalidError("config.datasets", rule)
    return files[0] if files else None


def _record(standing: tuple[TuningJob, Run]) -> Json:
    job, run = standing
    return {
        "name": job.given["name"],
        "id": job.name,
        "config": {"model": job.wish.base_model, "datasets": job.given["datasets"]},
        "uuid": typed_id("job_", job.job_id),
        "org_uuid": typed_id("org_", job.tenant),
        "status": STATUSES[run.state],
        "created_at": iso(job.create_time),
        "updated_at": iso(run.end_time or run.start_time or job.create_time),
        # Where the model is described; its last part is the name to use it by.
        "inference_config_path": f"/v1/models/{job.wish.model}" if run.state in MADE else None,
    }


def write_metrics(job: TuningJob, checkpoint: Checkpoint) -> Json:
    """What was measured at a checkpoint."""
    measured = checkpoint.measured
    values = {
        "step": measured.step,
        "loss": measured.training_loss,
        "eval_loss": measured.validation_loss,
        "eval_ndcg_at_10": measured.validation_ndcg_at_10,
        "wall_time_sec": (checkpoint.create_time - job.create_time).total_seconds(),
    }
    return {
        name: value for name, value in values.items() if value is not None and math.isfinite(value)
    }
