"""RunService: looking at runs and calling them off."""

from trine.scheduler.v1 import run_pb2, run_service_pb2, run_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.interceptors import Context
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.errors import RunNotFoundError
from services.scheduler.core.estimate import HISTORY_RUNS, PastRun
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import Run
from services.scheduler.messages import minutes_left, run_to_proto
from services.scheduler.rpc.pages import page_size


class RunServicer(run_service_pb2_grpc.RunServiceServicer):
    """Reads and cancels runs."""

    def __init__(self, store: SchedulerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ListRuns(
        self, request: run_service_pb2.ListRunsRequest, context: Context
    ) -> run_service_pb2.ListRunsResponse:
        size = page_size(request.page_size)
        tenant = current_tenant()
        runs = await self._store.list_runs(tenant, request.domain, request.page_token, size + 1)
        history = await self._store.past_runs(HISTORY_RUNS)
        return run_service_pb2.ListRunsResponse(
            runs=[self._to_proto(run, history) for run in runs[:size]],
            next_page_token=runs[size - 1].run_id if len(runs) > size else "",
        )

    async def GetRun(self, request: run_service_pb2.GetRunRequest, context: Context) -> run_pb2.Run:
        run = await self._store.read_run(current_tenant(), request.run_id)
        if run is None:
            raise RunNotFoundError(request.run_id)
        return self._to_proto(run, await self._store.past_runs(HISTORY_RUNS))

    async def CancelRun(
        self, request: run_service_pb2.CancelRunRequest, context: Context
    ) -> run_pb2.Run:
        async with self._store.begin() as unit:
            run = await cancel_run(unit, current_tenant(), request.run_id)
        return run_to_proto(run)

    def _to_proto(self, run: Run, history: list[PastRun]) -> run_pb2.Run:
        return run_to_proto(run, minutes_left(run, history, self._clock.now()))
