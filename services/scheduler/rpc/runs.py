"""RunService: looking at runs and steering them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from trine.scheduler.v1 import run_pb2, run_service_pb2, run_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.errors import RunNotFoundError
from services.scheduler.core.estimate import HISTORY_RUNS, PastRun
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.run import Run
from services.scheduler.core.stop_run import stop_run
from services.scheduler.core.watch_runs import RunWatches
from services.scheduler.messages import minutes_left, run_to_proto
from services.scheduler.rpc.pages import page_size

Steer = Callable[[SchedulerUnit, str, str], Awaitable[Run]]


class RunServicer(run_service_pb2_grpc.RunServiceServicer):
    """Reads runs and steers them."""

    def __init__(self, store: SchedulerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._watches = RunWatches(store)

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

    async def WatchRun(
        self, request: run_service_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[run_pb2.Run]:
        history = await self._store.past_runs(HISTORY_RUNS)
        async with aclosing(self._watches.watch(current_tenant(), request.run_id)) as runs:
            async for run in runs:
                yield self._to_proto(run, history)

    async def CancelRun(
        self, request: run_service_pb2.CancelRunRequest, context: Context
    ) -> run_pb2.Run:
        return await self._steer(cancel_run, request.run_id)

    async def StopRun(
        self, request: run_service_pb2.StopRunRequest, context: Context
    ) -> run_pb2.Run:
        return await self._steer(stop_run, request.run_id)

    async def PauseRun(
        self, request: run_service_pb2.PauseRunRequest, context: Context
    ) -> run_pb2.Run:
        return await self._steer(pause_run, request.run_id)

    async def ResumeRun(
        self, request: run_service_pb2.ResumeRunRequest, context: Context
    ) -> run_pb2.Run:
        return await self._steer(resume_run, request.run_id)

    async def _steer(self, act: Steer, run_id: str) -> run_pb2.Run:
        async with self._store.begin(current_tenant()) as unit:
            run = await act(unit, current_tenant(), run_id)
        crashpoint("scheduler.steering.committed")
        return self._to_proto(run, await self._store.past_runs(HISTORY_RUNS))

    def _to_proto(self, run: Run, history: list[PastRun]) -> run_pb2.Run:
        return run_to_proto(run, minutes_left(run, history, self._clock.now()))
