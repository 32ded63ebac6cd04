"""Runs from files over the wire: what the gateway asks for and reads, and what trainers get."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import (
    file_run_pb2,
    file_run_service_pb2_grpc,
    lease_service_pb2,
    lease_service_pb2_grpc,
    model_catalog_service_pb2_grpc,
    run_pb2,
)
from trine.scheduler.v1 import file_run_service_pb2 as pb
from trine.scheduler.v1 import model_catalog_service_pb2 as catalog_pb

from services.scheduler.core.create_file_run import FILE_RUNS_ACTIVE_MAX
from tests.support.scheduler import Scheduler, evaluation, open_service
from tests.support.server import ACME, MESH, refused

MODEL = "ft:trine-general:acme::one"
Source = file_run_pb2.FileSource


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def file_runs(scheduler: Scheduler) -> Any:
    return file_run_service_pb2_grpc.FileRunServiceStub(scheduler.channel)


def source(**content: Any) -> file_run_pb2.FileSource:
    given: dict[str, Any] = {
        "training_file": Source.InputFile(digest="1" * 64, size_bytes=1_000),
        "base_model": "trine-general",
        "model": MODEL,
    }
    return Source(**(given | content))


async def create(scheduler: Scheduler, seed: int = 0, **content: Any) -> file_run_pb2.FileRun:
    request = pb.CreateFileRunRequest(tenant="acme", source=source(**content), seed=seed)
    answer = await file_runs(scheduler).CreateFileRun(request, metadata=MESH)
    run: file_run_pb2.FileRun = answer.file_run
    return run


async def read(scheduler: Scheduler, run_id: str, tenant: str = "acme") -> Any:
    request = pb.GetFileRunRequest(tenant=tenant, run_id=run_id)
    return (await file_runs(scheduler).GetFileRun(request, metadata=MESH)).file_run


async def model(scheduler: Scheduler, name: str, tenant: str = "acme") -> catalog_pb.Model:
    stub = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(scheduler.channel)
    request = catalog_pb.GetModelRequest(tenant=tenant, model=name)
    found: catalog_pb.Model = (await stub.GetModel(request, metadata=MESH)).model
    return found


async def finish(scheduler: Scheduler, leased: Any) -> tuple[str, str]:
    """Tells of the files, one epoch and the model, as a trainer does; returns both manifests."""
    checkpoint = await scheduler.told(leased, head=f"{leased.head}:ckpt-step-4")
    made = await scheduler.told(leased)
    await scheduler.heartbeat(
        leased,
        dataset=file_run_pb2.FileDataset(
            training_lines_count=90,
            held_out_lines_count=9,
            items_count=200,
            tokens_count=3_000,
            method=Source.METHOD_TRIPLET,
        ),
        loss_points=[
            run_pb2.Run.LossPoint(
                step=4,
                loss=0.5,
                validation_loss=0.25,
                validation_ndcg_at_10=0.75,
                stage="embedding",
            )
        ],
        checkpoints=[
            file_run_pb2.FileRunCheckpoint(
                step=4,
                training_loss=0.5,
                validation_loss=0.25,
                validation_ndcg_at_10=0.75,
                manifest_digest=checkpoint,
            )
        ],
    )
    request = lease_service_pb2.CompleteRunRequest(
        tenant=leased.tenant,
        run_id=leased.run_id,
        token=leased.token,
        manifest_digest=made,
        evaluation=evaluation(better=True),
        result=file_run_pb2.FileResult(
            result_file_digest="d" * 64,
            result_file_size_bytes=99,
            trained_tokens_count=6_000,
            hyperparameters=file_run_pb2.Hyperparameters(n_epochs=2, batch_size=32),
        ),
    )
    stub = lease_service_pb2_grpc.LeaseServiceStub(scheduler.channel)
    await stub.CompleteRun(request, metadata=MESH)
    return checkpoint, made


async def test_a_run_from_files_goes_its_way(scheduler: Scheduler) -> None:
    asked = file_run_pb2.Hyperparameters(n_epochs=2, learning_rate_multiplier=0.5)
    created = await create(scheduler, seed=5, hyperparameters=asked)
    assert (created.run.status, created.run.model, created.run.domain) == ("queued", MODEL, "")
    assert (created.seed, created.source.hyperparameters) == (5, asked)
    assert not created.HasField("dataset")
    assert (await create(scheduler, seed=5, hyperparameters=asked)).run == created.run
    leased = await scheduler.lease()
    assert leased is not None
    assert (leased.head, leased.incumbent, leased.seed) == (MODEL, "", 5)
    assert leased.source == created.source
    await finish(scheduler, leased)
    done = await read(scheduler, created.run.run_id)
    assert (done.run.status, done.run.head, done.run.verdict.result) == ("succeeded", MODEL, "held")
    assert done.run.verdict.passed
    assert (done.dataset.method, done.run.triplets_used) == (Source.METHOD_TRIPLET, 90)
    assert (done.result.trained_tokens_count, done.result.hyperparameters.batch_size) == (6_000, 32)
    assert await scheduler.promoted() == []


async def test_the_tenant_sees_and_steers_its_runs_by_the_native_api(scheduler: Scheduler) -> None:
    run_id = (await create(scheduler)).run.run_id
    listed = list((await scheduler.runs()).runs)
    assert [(run.run_id, run.model, run.base_model) for run in listed] == [
        (run_id, MODEL, "trine-general")
    ]
    assert list((await scheduler.runs(domain="dating")).runs) == []
    assert (await scheduler.cancel(run_id)).status == "cancelled"
    assert (await read(scheduler, run_id)).run.status == "cancelled"


async def test_several_runs_are_told_in_the_order_they_were_asked_for(
    scheduler: Scheduler,
) -> None:
    made = [await create(scheduler, model=f"{MODEL}{number}") for number in range(2)]
    run_ids = [each.run.run_id for each in made]

    async def ask(*wanted: str, tenant: str = "acme") -> Any:
        request = pb.BatchGetFileRunsRequest(tenant=tenant, run_ids=wanted)
        return await file_runs(scheduler).BatchGetFileRuns(request, metadata=MESH)

    told = (await ask(*run_ids[::-1])).file_runs
    assert list(told) == made[::-1]
    assert (await refused(ask(*run_ids, tenant="other"))).reason == "RUN_NOT_FOUND"
    assert (await refused(ask())).reason == "FIELD_INVALID"
    assert (await refused(ask(*run_ids * 51))).reason == "FIELD_INVALID"
    domain_run = await scheduler.train(force=True)
    assert (await refused(ask(domain_run.run_id))).reason == "RUN_NOT_FOUND"


async def test_the_gateway_steers_runs_for_their_tenant_alone(scheduler: Scheduler) -> None:
    run_id = (await create(scheduler)).run.run_id

    async def steer(verb: str, tenant: str = "acme") -> Any:
        number = pb.SteerFileRunRequest.Verb.Value(f"VERB_{verb}")
        request = pb.SteerFileRunRequest(tenant=tenant, run_id=run_id, verb=number)
        return (await file_runs(scheduler).SteerFileRun(request, metadata=MESH)).file_run

    assert (await refused(steer("PAUSE", "other"))).reason == "RUN_NOT_FOUND"
    assert (await refused(read(scheduler, run_id, "other"))).reason == "RUN_NOT_FOUND"
    assert (await steer("PAUSE")).run.status == "paused"
    assert (await steer("RESUME")).run.status == "queued"
    assert (await refused(steer("STOP"))).reason == "RUN_STATE_INVALID"
    assert (await steer("CANCEL")).run.status == "cancelled"
    assert (await refused(steer("PAUSE"))).reason == "RUN_ENDED"
    assert (await refused(steer("UNSPECIFIED"))).metadata["field"] == "verb"


async def test_a_run_of_a_domain_is_no_run_from_files(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    assert (await refused(read(scheduler, run_id))).reason == "RUN_NOT_FOUND"


async def test_events_and_checkpoints_are_paged_and_stable(scheduler: Scheduler) -> None:
    run_id = (await create(scheduler)).run.run_id
    leased = await scheduler.lease()
    assert leased is not None
    await finish(scheduler, leased)

    async def page(token: str = "", size: int = 0) -> Any:
        request = pb.ListFileRunEventsRequest(
            tenant="acme", run_id=run_id, page_size=size, page_token=token
        )
        return await file_runs(scheduler).ListFileRunEvents(request, metadata=MESH)

    events = list((await page()).events)
    ids = [event.event_id for event in events]
    assert (ids[0], ids[-1]) == ("succeeded-4", "created")
    walked: list[str] = []
    token = ""
    while True:
        answer = await page(token, 2)
        walked += [event.event_id for event in answer.events]
        token = answer.next_page_token
        if not token:
            break
    assert walked == ids
    assert (await refused(page("step-99"))).metadata["field"] == "page_token"
    (measured,) = [event.metrics for event in events if event.HasField("metrics")]
    assert (measured.step, measured.validation_loss) == (4, 0.25)
    validated = next(event for event in events if event.event_id == "validated")
    assert "90 training" in validated.message
    request = pb.ListFileRunCheckpointsRequest(tenant="acme", run_id=run_id)
    (kept,) = (
        await file_runs(scheduler).ListFileRunCheckpoints(request, metadata=MESH)
    ).checkpoints
    assert (kept.model, kept.step) == (f"{MODEL}:ckpt-step-4", 4)


async def test_a_checkpoint_that_is_not_of_the_run_is_not_kept(scheduler: Scheduler) -> None:
    await create(scheduler)
    leased = await scheduler.lease()
    assert leased is not None
    for digest in (
        await scheduler.told(leased),  # the model's own, not the checkpoint's
        await scheduler.artifacts.put(scheduler.manifest(leased, head=f"{MODEL}:ckpt-step-4")),
    ):
        told = file_run_pb2.FileRunCheckpoint(step=4, training_loss=0.5, manifest_digest=digest)
        refusal = await refused(scheduler.heartbeat(leased, checkpoints=[told]))
        assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "manifest_digest")
    assert (await refused(model(scheduler, f"{MODEL}:ckpt-step-4"))).reason == "MODEL_NOT_FOUND"


async def test_models_are_found_by_their_names(scheduler: Scheduler) -> None:
    assert (await model(scheduler, "trine-general")).head == "general"
    assert (await model(scheduler, "trine-dating")).head == "general"  # nothing was learned yet
    await scheduler.trained()
    (promoted,) = await scheduler.promoted()
    for name in ("trine-dating", promoted):
        assert (await model(scheduler, name)).head == promoted
    run_id = (await create(scheduler)).run.run_id
    assert (await refused(model(scheduler, MODEL))).reason == "MODEL_NOT_FOUND"
    leased = await scheduler.lease()
    assert leased is not None
    manifests = await finish(scheduler, leased)
    made = await model(scheduler, MODEL)
    assert (made.head, made.manifest_digest, made.run_id) == (MODEL, manifests[1], run_id)
    checkpoint = await model(scheduler, f"{MODEL}:ckpt-step-4")
    assert (checkpoint.manifest_digest, checkpoint.head) == (manifests[0], f"{MODEL}:ckpt-step-4")
    for name in (f"{MODEL}:ckpt-step-5", f"{MODEL}:ckpt-step-x", "trine-nowhere", "gpt-4o", ""):
        assert (await refused(model(scheduler, name))).reason == "MODEL_NOT_FOUND"
    assert (await refused(model(scheduler, MODEL, "other"))).reason == "MODEL_NOT_FOUND"
    stub = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(scheduler.channel)
    listed = await stub.ListModels(catalog_pb.ListModelsRequest(tenant="acme"), metadata=MESH)
    assert [each.model for each in listed.models] == ["trine-general", "trine-dating", MODEL]


async def test_a_deleted_model_is_gone_with_its_checkpoints(scheduler: Scheduler) -> None:
    await create(scheduler)
    leased = await scheduler.lease()
    assert leased is not None
    await finish(scheduler, leased)
    stub = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(scheduler.channel)
    request = catalog_pb.DeleteModelRequest(tenant="acme", model=MODEL)
    await stub.DeleteModel(request, metadata=MESH)
    for name in (MODEL, f"{MODEL}:ckpt-step-4"):
        assert (await refused(model(scheduler, name))).reason == "MODEL_NOT_FOUND"
    assert (await refused(stub.DeleteModel(request, metadata=MESH))).reason == "MODEL_NOT_FOUND"
    listed = await stub.ListModels(catalog_pb.ListModelsRequest(tenant="acme"), metadata=MESH)
    assert [each.model for each in listed.models] == ["trine-general"]


async def test_a_head_of_a_domain_is_not_deleted(scheduler: Scheduler) -> None:
    await scheduler.trained()
    (head,) = await scheduler.promoted()
    stub = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(scheduler.channel)
    request = catalog_pb.DeleteModelRequest(tenant="acme", model=head)
    assert (await refused(stub.DeleteModel(request, metadata=MESH))).reason == "MODEL_NOT_FOUND"


async def test_a_run_goes_on_from_what_its_base_was_when_it_was_asked_for(
    scheduler: Scheduler,
) -> None:
    await scheduler.trained()
    (head,) = await scheduler.promoted()
    await create(scheduler, base_model="trine-dating")
    leased = await scheduler.lease()
    assert leased is not None
    assert leased.incumbent == head
    assert leased.incumbent_manifest_digest


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"training_file": Source.InputFile(digest="x")}, "source.training_file.digest"),
        (
            {"training_file": Source.InputFile(digest="1" * 64, size_bytes=512 * 1024**2 + 1)},
            "source.training_file.size_bytes",
        ),
        ({"validation_file": Source.InputFile()}, "source.validation_file.digest"),
        ({"base_model": ""}, "source.base_model"),
        ({"model": "gpt"}, "source.model"),
        ({"model": "ft:a:ckpt-step-3"}, "source.model"),
        (
            {"hyperparameters": file_run_pb2.Hyperparameters(n_epochs=51)},
            "source.hyperparameters.n_epochs",
        ),
        (
            {"hyperparameters": file_run_pb2.Hyperparameters(batch_size=0)},
            "source.hyperparameters.batch_size",
        ),
        (
            {"hyperparameters": file_run_pb2.Hyperparameters(learning_rate_multiplier=0)},
            "source.hyperparameters.learning_rate_multiplier",
        ),
        (
            {
                "method": Source.METHOD_SUPERVISED,
                "hyperparameters": file_run_pb2.Hyperparameters(beta=0.1),
            },
            "source.hyperparameters.beta",
        ),
    ],
)
async def test_a_bad_wish_is_refused_by_its_field(
    scheduler: Scheduler, content: dict[str, Any], field: str
) -> None:
    refusal = await refused(create(scheduler, **content))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", field)


async def test_unknown_bases_other_wishes_and_too_many_runs_are_refused(
    scheduler: Scheduler,
) -> None:
    assert (await refused(create(scheduler, base_model="ft:x"))).reason == "MODEL_NOT_FOUND"
    await create(scheduler)
    assert (await refused(create(scheduler, seed=1))).reason == "MODEL_EXISTS"
    for number in range(FILE_RUNS_ACTIVE_MAX - 1):
        await create(scheduler, model=f"ft:{number}")
    refusal = await refused(create(scheduler, model="ft:more"))
    assert refusal.reason == "FILE_RUNS_EXHAUSTED"
    assert refusal.metadata["file_runs_max"] == str(FILE_RUNS_ACTIVE_MAX)


async def test_the_services_are_internal(scheduler: Scheduler) -> None:
    request = pb.GetFileRunRequest(tenant="acme", run_id="tr")
    call = file_runs(scheduler).GetFileRun(request, metadata=ACME)
    assert (await refused(call)).reason == "INTERNAL_RPC"
