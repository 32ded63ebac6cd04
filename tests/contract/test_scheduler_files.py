"""What every scheduler's store does with runs from files, in dictionaries and in PostgreSQL."""

import asyncio
import dataclasses

import pytest

from services.chassis.database import EVERYONE
from services.scheduler.core.create_file_run import FILE_RUNS_ACTIVE_MAX, create_file_run
from services.scheduler.core.errors import FileRunsExhaustedError, ModelExistsError
from services.scheduler.core.file_source import FileSource, Method
from services.scheduler.core.find_model import NamedModel
from services.scheduler.core.head import MODEL_TIER
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import LossPoint, Run, State
from services.scheduler.core.run_events import run_events
from tests.support.runs import (
    DATASET,
    RESULT,
    TENANT,
    SchedulerSetting,
    beat,
    checkpoint_of,
    complete,
    file_job_of,
    heartbeat_of,
    lease,
    make_head,
    move,
    queue,
    queue_files,
    run_of,
)

GENERAL = NamedModel(model="trine-general")


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


def source_of(number: int) -> FileSource:
    files = file_job_of(number).files
    assert files is not None
    return files.source


async def create(store: SchedulerStore, number: int, tenant: str = TENANT, seed: int = 0) -> Run:
    async with store.begin(EVERYONE) as unit:
        return await create_file_run(unit, tenant, source_of(number), GENERAL, seed)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_wish_is_read_as_it_was_made(store: SchedulerStore, number: int) -> None:
    job = file_job_of(number, base_head="u_acme.dating.2026-05-17.001", method=Method.DPO)
    run = await queue_files(store, job)
    assert run.job == job
    assert await run_of(store, run) == run
    leased = await lease(store)
    assert (leased.job, leased.incumbent) == (job, "u_acme.dating.2026-05-17.001")


async def test_runs_from_files_stand_beside_each_other_and_domains(store: SchedulerStore) -> None:
    domain = await queue(store)
    files = [await queue_files(store, file_job_of(number)) for number in (1, 2)]
    assert await store.list_runs(TENANT, "", "", 9) == [*files[::-1], domain]
    assert await store.list_runs(TENANT, "", "", 9, from_files=True) == files[::-1]
    assert await store.list_runs(TENANT, "", files[1].run_id, 9, from_files=True) == files[:1]
    assert await store.list_runs("globex", "", "", 9, from_files=True) == []
    assert await store.active_run(TENANT, "dating") == domain


async def test_several_runs_are_read_at_once(store: SchedulerStore) -> None:
    made = [await queue_files(store, file_job_of(number)) for number in (1, 2, 3)]
    run_ids = [run.run_id for run in made]
    found = await store.read_runs(TENANT, [*run_ids[:2], "tr_none"])
    assert sorted(found, key=lambda run: run_ids.index(run.run_id)) == made[:2]
    assert await store.read_runs("globex", run_ids) == []


async def test_the_same_wish_again_is_the_run_that_there_is(store: SchedulerStore) -> None:
    run = await create(store, 1)
    assert await create(store, 1) == run
    with pytest.raises(ModelExistsError) as caught:
        await create(store, 1, seed=8)
    assert caught.value.metadata["run_id"] == run.run_id
    assert (await create(store, 1, tenant="globex")).job.tenant == "globex"


async def test_racing_wishes_stay_within_the_limit(store: SchedulerStore) -> None:
    wishes = (create(store, number) for number in range(FILE_RUNS_ACTIVE_MAX + 4))
    results = await asyncio.gather(*wishes, return_exceptions=True)
    refused = [result for result in results if isinstance(result, FileRunsExhaustedError)]
    queued = [result for result in results if isinstance(result, Run)]
    assert (len(queued), len(refused)) == (FILE_RUNS_ACTIVE_MAX, 4)
    await move(store, queued[0], State.CANCELLED)
    assert (await create(store, 99)).state is State.QUEUED


async def test_what_a_trainer_tells_of_files_is_kept(store: SchedulerStore) -> None:
    await queue_files(store)
    run = await lease(store)
    points = (
        LossPoint(4, 0.5, 0.75, "embedding", 0.25),
        LossPoint(8, 0.4, 0.0, "embedding", None),
    )
    told = [checkpoint_of(4), checkpoint_of(8, loss=None)]
    await beat(store, run, heartbeat_of(*points, dataset=DATASET, checkpoints=told))
    await beat(store, run, heartbeat_of(*points, checkpoints=told))  # a repeat, and no data set
    now = await run_of(store, run)
    assert (now.dataset, now.loss_curve) == (DATASET, points)
    kept = await store.list_checkpoints(TENANT, run.run_id)
    assert [dataclasses.replace(each, create_time=None) for each in kept] == told[::-1]
    assert all(each.create_time is not None for each in kept)
    await complete(store, run, result=RESULT)
    assert (await run_of(store, run)).result == RESULT


async def test_a_model_is_kept_whatever_the_verdict_and_moves_no_pointer(
    setting: SchedulerSetting,
) -> None:
    store = setting.store
    head = await make_head(store)
    run = await queue_files(store, file_job_of(base_head=f"{head.head}"))
    verdict = await complete(store, await lease(store), promoted=True, result=RESULT)
    assert (verdict.promoted, verdict.passed, len(verdict.reasons)) == (False, True, 1)
    model = await store.read_head(TENANT, run.job.model)
    assert model is not None
    assert (model.tier, model.domain, model.parent) == (MODEL_TIER, "", head.head)
    assert [each.head for each in await store.list_promoted(("", ""), 9)] == [head.head]
    assert [each.head for each in await store.list_in_use(TENANT)] == [head.head]
    assert await store.list_heads(TENANT, "", "", 9) == [model]
    ancestors = await store.ancestors(TENANT, model.head, 9)
    assert [ancestor.head for ancestor in ancestors] == [head.head]
    told = [untold.run_id for untold in await store.untold_runs(9)]
    assert run.run_id not in told, "the triplet store knows nothing of it"
    assert (await setting.events())[-1] == "run.completed"


async def test_a_model_made_from_a_checkpoint_descends_from_its_model(
    store: SchedulerStore,
) -> None:
    first = await queue_files(store)
    await complete(store, await lease(store))
    base = f"{first.job.model}:ckpt-step-4"
    second = await queue_files(store, file_job_of(2, base_head=base))
    await complete(store, await lease(store))
    ancestors = await store.ancestors(TENANT, second.job.model, 9)
    assert [ancestor.head for ancestor in ancestors] == [first.job.model]


async def test_a_deleted_model_is_marked(store: SchedulerStore) -> None:
    run = await queue_files(store)
    await complete(store, await lease(store))
    async with store.begin(EVERYONE) as unit:
        await unit.delete_head(TENANT, run.job.model)
    head = await store.read_head(TENANT, run.job.model)
    assert head is not None
    assert head.deleted


async def test_events_are_the_same_at_every_call(setting: SchedulerSetting) -> None:
    store = setting.store
    await queue_files(store)
    run = await lease(store, 0.05)
    await setting.wait(0.1)
    await beat(store, run, heartbeat_of(LossPoint(4, 0.5, 0.75, "embedding", 0.25)))
    await setting.wait(0.1)
    heartbeat = heartbeat_of(LossPoint(4, 0.5, 0.75, "embedding", 0.25), dataset=DATASET)
    await beat(store, run, heartbeat)
    await setting.wait(0.1)
    await move(store, run, State.QUEUED)
    await setting.wait(0.1)
    await complete(store, await lease(store), result=RESULT)

    async def read() -> list[str]:
        history = await store.read_history(TENANT, run.run_id)
        return [each.event_id for each in run_events(await run_of(store, run), history)]

    ids = await read()
    assert ids[0] == "succeeded-6"
    assert ids[-1] == "created"
    assert {"validated", "step-4", "queued-4", "starting-5"} <= set(ids)
    assert ids.index("validated") < ids.index("step-4"), "the point keeps its first time"
    assert len(ids) == len(set(ids))
    assert await read() == ids
