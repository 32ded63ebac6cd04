"""What the gateway asks of others: runs from files of the scheduler, uses of models of serving."""

import datetime
from collections.abc import Awaitable, Collection, Sequence
from typing import TypeVar

import grpc
from trine.scheduler.v1 import (
    file_run_pb2,
    file_run_service_pb2_grpc,
    model_catalog_service_pb2_grpc,
)
from trine.scheduler.v1 import file_run_service_pb2 as pb
from trine.scheduler.v1 import model_catalog_service_pb2 as catalog_pb
from trine.serving.v1 import model_service_pb2, model_service_pb2_grpc

from services.chassis.crashpoint import crashpoint
from services.chassis.errors import read_error_info
from services.gateway.core.errors import FieldInvalidError, SchedulerUnavailableError
from services.gateway.core.inference import Embedded, Reranked
from services.gateway.core.run import (
    Checkpoint,
    Failure,
    Hyperparameters,
    InputFile,
    Measured,
    Method,
    Model,
    Run,
    RunEvent,
    RunResult,
    RunState,
    Verb,
    Wish,
)

Answer = TypeVar("Answer")
Metrics = file_run_pb2.FileRunEvent.Metrics | file_run_pb2.FileRunCheckpoint

METHODS = {
    Method.AUTO: file_run_pb2.FileSource.METHOD_UNSPECIFIED,
    Method.SUPERVISED: file_run_pb2.FileSource.METHOD_SUPERVISED,
    Method.DPO: file_run_pb2.FileSource.METHOD_DPO,
    Method.TRIPLET: file_run_pb2.FileSource.METHOD_TRIPLET,
}
VERBS = {
    Verb.CANCEL: pb.SteerFileRunRequest.VERB_CANCEL,
    Verb.PAUSE: pb.SteerFileRunRequest.VERB_PAUSE,
    Verb.RESUME: pb.SteerFileRunRequest.VERB_RESUME,
    Verb.STOP: pb.SteerFileRunRequest.VERB_STOP,
}
INFERENCE_SECONDS_MAX = 120.0
"""Two thousand long texts take the encoder ten seconds of a core, when nobody else asks."""
FIELDS = {"texts": "input"}
"""Fields of serving's requests that the dialect calls otherwise."""
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class SchedulerRuns:
    """Runs from files over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._runs = file_run_service_pb2_grpc.FileRunServiceStub(channel)
        self._models = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(channel)

    async def create(self, tenant: str, wish: Wish) -> Run:
        """Makes a run, or returns the one that the same wish has made."""
        source = file_run_pb2.FileSource(
            training_file=_file(wish.training_file),
            validation_file=None if wish.validation_file is None else _file(wish.validation_file),
            base_model=wish.base_model,
            method=METHODS[wish.method],
            hyperparameters=_chosen(wish.hyperparameters),
            model=wish.model,
        )
        request = pb.CreateFileRunRequest(tenant=tenant, source=source, seed=wish.seed)
        answer = await _ask(self._runs.CreateFileRun(request))
        crashpoint("gateway.run.made")
        return _run(answer.file_run)

    async def get(self, tenant: str, run_id: str) -> Run:
        """Returns a run."""
        request = pb.GetFileRunRequest(tenant=tenant, run_id=run_id)
        return _run((await _ask(self._runs.GetFileRun(request))).file_run)

    async def get_all(self, tenant: str, run_ids: Collection[str]) -> dict[str, Run]:
        """Returns runs by their ids."""
        if not run_ids:
            return {}
        request = pb.BatchGetFileRunsRequest(tenant=tenant, run_ids=run_ids)
        answer = await _ask(self._runs.BatchGetFileRuns(request))
        return {message.run.run_id: _run(message) for message in answer.file_runs}

    async def steer(self, tenant: str, run_id: str, verb: Verb) -> Run:
        """Does something to a run."""
        request = pb.SteerFileRunRequest(tenant=tenant, run_id=run_id, verb=VERBS[verb])
        return _run((await _ask(self._runs.SteerFileRun(request))).file_run)

    async def list_events(
        self, tenant: str, run_id: str, after: str, limit: int
    ) -> tuple[list[RunEvent], bool]:
        """Returns events older than an id, newest first, and whether there are others."""
        request = pb.ListFileRunEventsRequest(
            tenant=tenant, run_id=run_id, page_size=limit, page_token=after
        )
        answer = await _ask(self._runs.ListFileRunEvents(request))
        return [_event(event) for event in answer.events], bool(answer.next_page_token)

    async def list_checkpoints(self, tenant: str, run_id: str) -> list[Checkpoint]:
        """Returns all checkpoints of a run, newest first."""
        request = pb.ListFileRunCheckpointsRequest(tenant=tenant, run_id=run_id)
        answer = await _ask(self._runs.ListFileRunCheckpoints(request))
        return [
            Checkpoint(
                model=found.model,
                create_time=found.create_time.ToDatetime(datetime.UTC),
                measured=_measured(found),
            )
            for found in answer.checkpoints
        ]

    async def get_model(self, tenant: str, model: str) -> Model:
        """Returns a model or a checkpoint."""
        request = catalog_pb.GetModelRequest(tenant=tenant, model=model)
        return _model((await _ask(self._models.GetModel(request))).model)

    async def list_models(self, tenant: str) -> list[Model]:
        """Returns what the tenant may name."""
        request = catalog_pb.ListModelsRequest(tenant=tenant)
        return [_model(model) for model in (await _ask(self._models.ListModels(request))).models]

    async def delete_model(self, tenant: str, model: str) -> None:
        """Deletes a model that a run from files has made."""
        request = catalog_pb.DeleteModelRequest(tenant=tenant, model=model)
        await _ask(self._models.DeleteModel(request))


class ServingModels:
    """Models over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = model_service_pb2_grpc.ModelServiceStub(channel)

    async def embed(
        self, tenant: str, model: str, texts: Sequence[str], *, query: bool
    ) -> Embedded:
        """Returns a vector for each text."""
        kind = model_service_pb2.EmbedRequest
        request = kind(
            tenant=tenant,
            model=model,
            texts=texts,
            input_type=kind.INPUT_TYPE_QUERY if query else kind.INPUT_TYPE_DOCUMENT,
        )
        found = await _infer(self._stub.Embed(request, timeout=INFERENCE_SECONDS_MAX))
        return Embedded(found.vectors, found.dim, found.tokens_count)

    async def rerank(
        self, tenant: str, model: str, query: str, documents: Sequence[str], top_n: int
    ) -> Reranked:
        """Returns the best documents."""
        request = model_service_pb2.RerankRequest(
            tenant=tenant, model=model, query=query, documents=documents, top_n=top_n
        )
        found = await _infer(self._stub.Rerank(request, timeout=INFERENCE_SECONDS_MAX))
        ranked = [(result.index, result.relevance_score) for result in found.results]
        return Reranked(ranked, found.tokens_count)


async def _infer(call: Awaitable[Answer]) -> Answer:
    """Serving's fields have other names than a dialect's."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        info = read_error_info(error)
        if info.reason != "FIELD_INVALID":
            raise
        field = info.metadata["field"]
        raise FieldInvalidError(FIELDS.get(field, field), info.metadata["rule"]) from error


async def _ask(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in _AWAY:
            raise SchedulerUnavailableError from error
        raise


def _file(file: InputFile) -> file_run_pb2.FileSource.InputFile:
    return file_run_pb2.FileSource.InputFile(digest=file.digest, size_bytes=file.bytes_count)


def _chosen(chosen: Hyperparameters) -> file_run_pb2.Hyperparameters:
    return file_run_pb2.Hyperparameters(
        n_epochs=chosen.n_epochs,
        batch_size=chosen.batch_size,
        learning_rate_multiplier=chosen.learning_rate_multiplier,
        beta=chosen.beta,
    )


def _run(message: file_run_pb2.FileRun) -> Run:
    run = message.run
    by_number = {number: method for method, number in METHODS.items()}
    return Run(
        run_id=run.run_id,
        state=RunState(run.status),
        method=by_number.get(message.dataset.method, Method.AUTO),
        files_read=message.HasField("dataset"),
        minutes_left=run.estimated_completion_minutes,
        start_time=run.start_time.ToDatetime(datetime.UTC) if run.HasField("start_time") else None,
        end_time=run.end_time.ToDatetime(datetime.UTC) if run.HasField("end_time") else None,
        failure=Failure(run.failure.reason, run.failure.message)
        if run.HasField("failure")
        else None,
        result=_result(message.result) if message.HasField("result") else None,
    )


def _result(message: file_run_pb2.FileResult) -> RunResult:
    used = message.hyperparameters
    return RunResult(
        digest=message.result_file_digest,
        bytes_count=message.result_file_size_bytes,
        trained_tokens_count=message.trained_tokens_count,
        hyperparameters=Hyperparameters(
            n_epochs=used.n_epochs if used.HasField("n_epochs") else None,
            batch_size=used.batch_size if used.HasField("batch_size") else None,
            learning_rate_multiplier=used.learning_rate_multiplier
            if used.HasField("learning_rate_multiplier")
            else None,
            beta=used.beta if used.HasField("beta") else None,
        ),
    )


def _event(message: file_run_pb2.FileRunEvent) -> RunEvent:
    return RunEvent(
        event_id=message.event_id,
        create_time=message.create_time.ToDatetime(datetime.UTC),
        level=message.level,
        message=message.message,
        measured=_measured(message.metrics) if message.HasField("metrics") else None,
    )


def _measured(message: Metrics) -> Measured:
    ranked = message.HasField("validation_ndcg_at_10")
    return Measured(
        step=message.step,
        training_loss=message.training_loss,
        validation_loss=message.validation_loss if message.HasField("validation_loss") else None,
        validation_ndcg_at_10=message.validation_ndcg_at_10 if ranked else None,
    )


def _model(message: catalog_pb.Model) -> Model:
    made = message.HasField("create_time")
    return Model(
        model=message.model,
        owner=message.owner,
        create_time=message.create_time.ToDatetime(datetime.UTC) if made else None,
    )
