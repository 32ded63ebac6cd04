"""What every store of fine-tuning jobs does, in dictionaries and in PostgreSQL."""

import asyncio
import datetime
from collections.abc import AsyncIterator

import pytest

from services.gateway.core.create_job import adopt_jobs
from services.gateway.core.errors import (
    FieldInvalidError,
    FileNotThereError,
    JobNameTakenError,
    JobNotFoundError,
    QuotaExceededError,
    RequestKeyReusedError,
    SchedulerUnavailableError,
)
from services.gateway.core.file import RESULTS
from services.gateway.core.permission import permissions_for
from services.gateway.core.read_job import Jobs
from services.gateway.core.run import (
    Hyperparameters,
    InputFile,
    Method,
    RunResult,
    RunState,
    Verb,
)
from services.gateway.core.tuning_job import TuningJob
from services.gateway.memory import MemoryFileStore, MemoryJobStore
from services.gateway.postgres import MIGRATIONS, PostgresFileStore, PostgresJobStore
from tests.support.infrastructure import Servers
from tests.support.tuning import NOW, RefusedError, Tuning


@pytest.fixture(params=["memory", "postgres"])
async def tuning(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Tuning]:
    if request.param == "memory":
        files = MemoryFileStore()
        yield Tuning(MemoryJobStore(files), files)
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield Tuning(PostgresJobStore(database), PostgresFileStore(database))


async def test_a_job_is_found_as_it_was_asked_for(tuning: Tuning) -> None:
    train, valid = await tuning.send(), await tuning.send()
    job, run = await tuning.ask(
        train,
        validation_file_id=valid,
        method=Method.DPO,
        hyperparameters=Hyperparameters(n_epochs=3, beta=0.1),
        suffix="week-1",
        seed=7,
        given={"integrations": [{"type": "wandb"}]},
        metadata={"team": "bläu"},
    )
    assert job.run_id == run.run_id
    assert await tuning.jobs.find_job("acme", job.job_id) == job
    assert await tuning.jobs.find_job("globex", job.job_id) is None
    assert (job.wish.seed, job.wish.method) == (7, Method.DPO)
    assert job.wish.training_file == InputFile(job.wish.training_file.digest, 3)
    assert job.wish.model == f"ft:trine-general:acme:week-1:{job.job_id.removeprefix('ftjob-')}"


async def test_a_job_goes_on_from_a_model_that_a_job_has_made(tuning: Tuning) -> None:
    job, _ = await tuning.ask(await tuning.send(), base_model="ft:trine-dating:acme::0a1b")
    assert job.wish.model.startswith("ft:trine-dating:acme::")
    assert job.wish.base_model == "ft:trine-dating:acme::0a1b"


async def test_the_same_request_within_ten_minutes_answers_the_first_job(tuning: Tuning) -> None:
    file = await tuning.send()
    first, _ = await tuning.ask(file)
    tuning.clock.advance(599)
    assert (await tuning.ask(file))[0] == first
    others = [
        await tuning.ask(file, suffix="x"),
        await tuning.ask(file, metadata={}),
        await tuning.ask(file, key="mine"),
        await tuning.ask(await tuning.send()),
        await tuning.ask(await tuning.send(tenant="globex"), tenant="globex"),
    ]
    assert len({job.job_id for job, _ in [(first, None), *others]}) == 6
    tuning.clock.advance(1)
    assert (await tuning.ask(file))[0].job_id != first.job_id


async def test_of_ten_repeats_at_once_one_makes_a_job(tuning: Tuning) -> None:
    file = await tuning.send()
    answers = await asyncio.gather(*(tuning.ask(file) for _ in range(10)))
    assert len({job.job_id for job, _ in answers}) == 1
    assert len(tuning.runs.runs) == 1


async def test_a_key_holds_for_a_day_and_for_one_request(tuning: Tuning) -> None:
    file = await tuning.send()
    first, _ = await tuning.ask(file, key="mine")
    tuning.clock.advance(86_000)
    assert (await tuning.ask(file, key="mine"))[0] == first
    with pytest.raises(RequestKeyReusedError):
        await tuning.ask(file, key="mine", seed=1)
    other = await tuning.send(tenant="globex")
    assert (await tuning.ask(other, key="mine", tenant="globex"))[0].tenant == "globex"
    tuning.clock.advance(400)
    assert (await tuning.ask(file, key="mine", seed=1))[0].job_id != first.job_id


async def test_a_job_that_was_cancelled_may_be_wished_for_anew(tuning: Tuning) -> None:
    file, jobs = await tuning.send(), Jobs(tuning.jobs, tuning.runs, tuning.clock)
    first, _ = await tuning.ask(file, key="mine")
    second, _ = await tuning.ask(file)
    assert second == first  # without a key it is the same request
    _, run = await jobs.steer("acme", first.job_id, Verb.CANCEL)
    assert run.state is RunState.CANCELLED
    assert (await tuning.ask(file))[0].job_id != first.job_id
    assert (await tuning.ask(file, key="mine"))[0].job_id == first.job_id  # a key is a promise


async def test_a_wish_outlives_the_schedulers_absence(tuning: Tuning) -> None:
    file, jobs = await tuning.send(), Jobs(tuning.jobs, tuning.runs, tuning.clock)
    tuning.runs.away = True
    with pytest.raises(SchedulerUnavailableError):
        await tuning.ask(file)
    (job,) = await tuning.jobs.list_without_run(10)
    read, run = await jobs.read("acme", job.job_id)
    assert (read, run.state) == (job, RunState.QUEUED)
    tuning.runs.away = False
    await adopt_jobs(tuning.jobs, tuning.runs)
    assert await tuning.jobs.list_without_run(10) == []
    repeated, run = await tuning.ask(file)
    assert (repeated.job_id, run.run_id) == (job.job_id, "tr_0")
    assert len(tuning.runs.runs) == 1


async def test_a_wish_that_is_refused_was_never_made(tuning: Tuning) -> None:
    file = await tuning.send()
    tuning.runs.refuses = True
    with pytest.raises(RefusedError):
        await tuning.ask(file)
    listed = await tuning.jobs.list_jobs("acme", after="", limit=9, metadata=None, bare=False)
    assert listed == []


async def test_a_job_learns_from_files_that_are_there_and_meant_for_it(tuning: Tuning) -> None:
    file, other = await tuning.send(), await tuning.send("evals")
    with pytest.raises(FileNotThereError) as caught:
        await tuning.ask("file-0")
    assert caught.value.metadata["field"] == "training_file"
    with pytest.raises(FileNotThereError):
        await tuning.ask(file, tenant="globex")
    with pytest.raises(FieldInvalidError, match="validation_file"):
        await tuning.ask(file, validation_file_id=other)


async def test_jobs_are_listed_by_page_and_by_metadata(tuning: Tuning) -> None:
    file = await tuning.send()
    notes: list[dict[str, str] | None] = [{"a": "1", "b": "2"}, {"a": "1"}, None, {}]
    made = [
        (await tuning.ask(file, suffix=f"s{index}", metadata=note))[0].job_id
        for index, note in enumerate(notes)
    ]

    async def ids(
        after: str = "",
        limit: int = 9,
        metadata: dict[str, str] | None = None,
        *,
        bare: bool = False,
    ) -> list[str]:
        found = await tuning.jobs.list_jobs(
            "acme", after=after, limit=limit, metadata=metadata, bare=bare
        )
        return [job.job_id for job in found]

    assert await ids() == made[::-1]
    assert await ids(limit=2) == [made[3], made[2]]
    assert await ids(after=made[2]) == [made[1], made[0]]
    assert await ids(metadata={"a": "1"}) == [made[1], made[0]]
    assert await ids(metadata={"a": "1", "b": "2"}) == [made[0]]
    assert await ids(metadata={"a": "2"}) == []
    assert await ids(bare=True) == [made[3], made[2]]


async def test_a_list_asks_the_scheduler_once(tuning: Tuning) -> None:
    file, jobs = await tuning.send(), Jobs(tuning.jobs, tuning.runs, tuning.clock)
    made = [await tuning.ask(file, suffix=f"s{index}") for index in range(3)]
    tuning.runs.away = True
    with pytest.raises(SchedulerUnavailableError):
        await tuning.ask(file, suffix="s3")
    tuning.runs.away = False
    tuning.runs.become(made[1][1].run_id, state=RunState.FAILED)
    page = await jobs.list("acme", after="", limit=9)
    assert [run.state for _, run in page.items] == ["queued", "queued", "failed", "queued"]
    assert [run.run_id for _, run in page.items] == ["", *(run.run_id for _, run in made[::-1])]
    assert tuning.runs.questions_count == 1


async def test_what_a_run_has_made_becomes_one_file(tuning: Tuning) -> None:
    jobs = Jobs(tuning.jobs, tuning.runs, tuning.clock)
    job, run = await tuning.ask(await tuning.send())
    assert (await jobs.read("acme", job.job_id))[0].result_file_id == ""
    result = RunResult(
        digest="d" * 64,
        bytes_count=9,
        trained_tokens_count=1,
        hyperparameters=Hyperparameters(n_epochs=1),
    )
    tuning.runs.become(run.run_id, state=RunState.SUCCEEDED, result=result)
    answers = await asyncio.gather(*(jobs.read("acme", job.job_id) for _ in range(5)))
    (file_id,) = {read.result_file_id for read, _ in answers}
    file = await tuning.files.find_file("acme", file_id, tuning.clock.now())
    assert file is not None
    assert (file.digest, file.bytes_count, file.purpose) == ("d" * 64, 9, RESULTS)
    with pytest.raises(JobNotFoundError):
        await jobs.read("globex", job.job_id)


async def test_permissions_are_kept_once_a_project(tuning: Tuning) -> None:
    def new(*projects: str, tenant: str = "acme", seconds: int = 0) -> list[object]:
        moment = NOW + datetime.timedelta(seconds=seconds)
        return list(permissions_for(tenant, "ft:a:ckpt-step-1", projects, moment))

    async def add(*projects: str, **content: object) -> list[str]:
        added = await tuning.jobs.add_permissions(new(*projects, **content))  # type: ignore[arg-type]
        return [permission.permission_id for permission in added]

    first, second = [(await add(name, seconds=n))[0] for n, name in enumerate(("a", "b"))]
    assert await add("b", "a", "a", seconds=9) == [second, first]
    await add("a", tenant="globex")

    async def listed(
        after: str = "", *, newest_first: bool = True, project: str = "", limit: int = 9
    ) -> list[str]:
        found = await tuning.jobs.list_permissions(
            "acme",
            "ft:a:ckpt-step-1",
            after=after,
            limit=limit,
            newest_first=newest_first,
            project=project,
        )
        return [permission.permission_id for permission in found]

    assert await listed() == [second, first]
    assert await listed(newest_first=False, limit=1) == [first]
    assert await listed(first, newest_first=False) == [second]
    assert await listed(project="a") == [first]
    assert not await tuning.jobs.delete_permission("globex", "ft:a:ckpt-step-1", first)
    assert await tuning.jobs.delete_permission("acme", "ft:a:ckpt-step-1", first)
    assert not await tuning.jobs.delete_permission("acme", "ft:a:ckpt-step-1", first)


async def test_a_checkpoint_has_so_many_permissions(
    tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("memory", "postgres"):
        monkeypatch.setattr(f"services.gateway.{module}.jobs.PERMISSIONS_MAX", 2)
    await tuning.jobs.add_permissions(permissions_for("acme", "m", ["a", "b"], NOW))
    with pytest.raises(QuotaExceededError):
        await tuning.jobs.add_permissions(permissions_for("acme", "m", ["b", "c"], NOW))
    await tuning.jobs.add_permissions(permissions_for("acme", "m", ["a", "b"], NOW))
    found = await tuning.jobs.list_permissions(
        "acme", "m", after="", limit=9, newest_first=True, project=""
    )
    assert {permission.project for permission in found} == {"a", "b"}


async def test_a_job_without_a_run_is_dropped_and_one_with_a_run_is_not(tuning: Tuning) -> None:
    job: TuningJob = (await tuning.ask(await tuning.send()))[0]
    await tuning.jobs.drop_job(job)
    assert await tuning.jobs.find_job("acme", job.job_id) == job


async def test_a_name_finds_one_job_of_a_tenant_for_good(tuning: Tuning) -> None:
    file = await tuning.send()
    plain, _ = await tuning.ask(file)
    job, _ = await tuning.ask(file, given={"id": "mine"}, name="mine")
    assert await tuning.jobs.find_named_job("acme", "mine") == job
    for tenant, name in (("globex", "mine"), ("acme", "other"), ("acme", "")):
        assert await tuning.jobs.find_named_job(tenant, name) is None
    await tuning.jobs.release_wish(job)
    tuning.clock.advance(90 * 86_400)
    assert (await tuning.ask(file, given={"id": "mine"}, name="mine"))[0] == job
    with pytest.raises(JobNameTakenError):
        await tuning.ask(file, given={"id": "mine"}, name="mine", seed=1)
    first, _ = await tuning.ask(file, given={"id": ""}, name="made-1")
    assert (await tuning.ask(file, given={"id": ""}, name="made-2"))[0] == first
    for named, ids in ((True, [first.job_id, job.job_id]), (False, [plain.job_id])):
        found = await tuning.jobs.list_jobs(
            "acme", after="", limit=9, metadata=None, bare=False, named=named
        )
        assert [each.job_id for each in found] == ids
