"""FileRunService and ModelCatalogService: runs from files and the models that they make."""

from collections.abc import Sequence

from trine.scheduler.v1 import (
    file_run_pb2,
    file_run_service_pb2_grpc,
    model_catalog_service_pb2_grpc,
)
from trine.scheduler.v1 import file_run_service_pb2 as pb
from trine.scheduler.v1 import model_catalog_service_pb2 as catalog_pb

from services.chassis.clock import Clock
from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.create_file_run import create_file_run
from services.scheduler.core.errors import (
    FieldInvalidError,
    ModelNotFoundError,
    RunNotFoundError,
)
from services.scheduler.core.estimate import HISTORY_RUNS
from services.scheduler.core.file_source import check_source
from services.scheduler.core.find_model import find_model, list_models
from services.scheduler.core.head import MODEL_TIER
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.ports import SchedulerStore, TripletCounts
from services.scheduler.core.run import Run
from services.scheduler.core.run_events import run_events
from services.scheduler.core.stop_run import stop_run
from services.scheduler.file_messages import (
    checkpoint_to_proto,
    event_to_proto,
    file_run_to_proto,
    model_to_proto,
    source_from_proto,
)
from services.scheduler.messages import minutes_left
from services.scheduler.rpc.pages import page_size

BATCH_RUNS_MAX = 100
VERBS = {
    pb.SteerFileRunRequest.VERB_CANCEL: cancel_run,
    pb.SteerFileRunRequest.VERB_PAUSE: pause_run,
    pb.SteerFileRunRequest.VERB_RESUME: resume_run,
    pb.SteerFileRunRequest.VERB_STOP: stop_run,
}


class FileRunServicer(file_run_service_pb2_grpc.FileRunServiceServicer):
    """Creates, reads and steers runs from files."""

    def __init__(self, store: SchedulerStore, triplets: TripletCounts, clock: Clock) -> None:
        self._store = store
        self._triplets = triplets
        self._clock = clock

    async def CreateFileRun(
        self, request: pb.CreateFileRunRequest, context: Context
    ) -> pb.CreateFileRunResponse:
        _require_tenant(request.tenant)
        source = source_from_proto(request.source)
        check_source(source, request.seed)
        base = await find_model(self._store, self._triplets, request.tenant, source.base_model)
        async with self._store.begin(request.tenant) as unit:
            run = await create_file_run(unit, request.tenant, source, base, request.seed)
        crashpoint("scheduler.file_run.committed")
        return pb.CreateFileRunResponse(file_run=await self._to_proto(run))

    async def GetFileRun(
        self, request: pb.GetFileRunRequest, context: Context
    ) -> pb.GetFileRunResponse:
        run = await self._read(request.tenant, request.run_id)
        return pb.GetFileRunResponse(file_run=await self._to_proto(run))

    async def BatchGetFileRuns(
        self, request: pb.BatchGetFileRunsRequest, context: Context
    ) -> pb.BatchGetFileRunsResponse:
        _require_tenant(request.tenant)
        if not 1 <= len(request.run_ids) <= BATCH_RUNS_MAX:
            raise FieldInvalidError("run_ids", f"must be 1 to {BATCH_RUNS_MAX} ids")
        found = await self._store.read_runs(request.tenant, request.run_ids)
        runs = {run.run_id: run for run in found if run.job.files is not None}
        for run_id in request.run_ids:
            if run_id not in runs:
                raise RunNotFoundError(run_id)
        wanted = [runs[run_id] for run_id in request.run_ids]
        return pb.BatchGetFileRunsResponse(file_runs=await self._to_protos(wanted))

    async def ListFileRuns(
        self, request: pb.ListFileRunsRequest, context: Context
    ) -> pb.ListFileRunsResponse:
        _require_tenant(request.tenant)
        size = page_size(request.page_size)
        found = await self._store.list_runs(
            request.tenant, "", request.page_token, size + 1, from_files=True
        )
        runs = found[:size]
        return pb.ListFileRunsResponse(
            file_runs=await self._to_protos(runs),
            next_page_token=runs[-1].run_id if len(found) > size else "",
        )

    async def SteerFileRun(
        self, request: pb.SteerFileRunRequest, context: Context
    ) -> pb.SteerFileRunResponse:
        act = VERBS.get(request.verb)
        if act is None:
            raise FieldInvalidError("verb", "must be a verb")
        await self._read(request.tenant, request.run_id)
        async with self._store.begin(request.tenant) as unit:
            run = await act(unit, request.tenant, request.run_id)
        return pb.SteerFileRunResponse(file_run=await self._to_proto(run))

    async def ListFileRunEvents(
        self, request: pb.ListFileRunEventsRequest, context: Context
    ) -> pb.ListFileRunEventsResponse:
        size = page_size(request.page_size)
        run = await self._read(request.tenant, request.run_id)
        events = run_events(run, await self._store.read_history(request.tenant, request.run_id))
        if request.page_token:
            ids = [event.event_id for event in events]
            if request.page_token not in ids:
                raise FieldInvalidError("page_token", "must be the id of an event of the run")
            events = events[ids.index(request.page_token) + 1 :]
        return pb.ListFileRunEventsResponse(
            events=[event_to_proto(event) for event in events[:size]],
            next_page_token=events[size - 1].event_id if len(events) > size else "",
        )

    async def ListFileRunCheckpoints(
        self, request: pb.ListFileRunCheckpointsRequest, context: Context
    ) -> pb.ListFileRunCheckpointsResponse:
        run = await self._read(request.tenant, request.run_id)
        found = await self._store.list_checkpoints(request.tenant, request.run_id)
        return pb.ListFileRunCheckpointsResponse(
            checkpoints=[checkpoint_to_proto(run.job.model, each) for each in found]
        )

    async def _read(self, tenant: str, run_id: str) -> Run:
        """The run; one of a domain is none that could be found here."""
        run = await self._store.read_run(tenant, run_id)
        if run is None or run.job.files is None:
            raise RunNotFoundError(run_id)
        return run

    async def _to_proto(self, run: Run) -> file_run_pb2.FileRun:
        (message,) = await self._to_protos([run])
        return message

    async def _to_protos(self, runs: Sequence[Run]) -> list[file_run_pb2.FileRun]:
        history = await self._store.past_runs(HISTORY_RUNS)
        now = self._clock.now()
        return [file_run_to_proto(run, minutes_left(run, history, now)) for run in runs]


class ModelCatalogServicer(model_catalog_service_pb2_grpc.ModelCatalogServiceServicer):
    """Says what models' names stand for."""

    def __init__(self, store: SchedulerStore, triplets: TripletCounts) -> None:
        self._store = store
        self._triplets = triplets

    async def GetModel(
        self, request: catalog_pb.GetModelRequest, context: Context
    ) -> catalog_pb.GetModelResponse:
        found = await find_model(self._store, self._triplets, request.tenant, request.model)
        return catalog_pb.GetModelResponse(model=model_to_proto(found))

    async def ListModels(
        self, request: catalog_pb.ListModelsRequest, context: Context
    ) -> catalog_pb.ListModelsResponse:
        _require_tenant(request.tenant)
        models = await list_models(self._store, self._triplets, request.tenant)
        return catalog_pb.ListModelsResponse(models=map(model_to_proto, models))

    async def DeleteModel(
        self, request: catalog_pb.DeleteModelRequest, context: Context
    ) -> catalog_pb.DeleteModelResponse:
        head = await self._store.read_head(request.tenant, request.model)
        if head is None or head.tier != MODEL_TIER or head.deleted:
            raise ModelNotFoundError(request.model)
        async with self._store.begin(request.tenant) as unit:
            await unit.delete_head(request.tenant, request.model)
        return catalog_pb.DeleteModelResponse()


def _require_tenant(tenant: str) -> None:
    if not tenant:
        raise FieldInvalidError("tenant", "must be given")
