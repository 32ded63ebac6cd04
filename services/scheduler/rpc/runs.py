"""TrainingService and RunService: asking for runs and looking at them."""

from trine.scheduler.v1 import (
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
)

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.interceptors import Context
from services.chassis.replies import answer_once
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.errors import FieldInvalidError, RunNotFoundError
from services.scheduler.core.estimate import PastRun, estimate_minutes
from services.scheduler.core.plan_training import TrainingPlan, plan_training
from services.scheduler.core.ports import (
    DomainCounts,
    SchedulerStore,
    SchedulerUnit,
    TripletCounts,
)
from services.scheduler.core.run import Run
from services.scheduler.core.train_domain import TrainingPolicy, train_domain
from services.scheduler.core.verdict import RULES
from services.scheduler.messages import minutes_left, run_to_proto
from services.scheduler.rpc.errors import ERRORS
from services.scheduler.rpc.pages import page_size

HISTORY_RUNS = 50


class TrainingServicer(training_service_pb2_grpc.TrainingServiceServicer):
    """Starts runs on demand."""

    def __init__(
        self, store: SchedulerStore, triplets: TripletCounts, policy: TrainingPolicy
    ) -> None:
        self._store = store
        self._triplets = triplets
        self._policy = policy

    async def TrainDomain(
        self, request: training_service_pb2.TrainDomainRequest, context: Context
    ) -> training_service_pb2.TrainDomainResponse:
        if not request.domain:
            raise FieldInvalidError("domain", "must be given")
        counts = await self._triplets.get(current_tenant(), request.domain)
        history = await self._store.past_runs(HISTORY_RUNS)
        ahead = await self._store.queued_count()
        minutes = estimate_minutes(history, counts.triplets_count, ahead)
        if request.dry_run:
            plan = await plan_training(self._store, counts, self._policy, force=request.force)
            return _planned(counts, self._policy, plan, minutes)

        async def act(unit: SchedulerUnit) -> training_service_pb2.TrainDomainResponse:
            run = await train_domain(unit, counts, self._policy, force=request.force)
            return training_service_pb2.TrainDomainResponse(
                domain=run.job.domain,
                status=run.state,
                run_id=run.run_id,
                triplets_used=run.job.triplets_count,
                estimated_completion_minutes=minutes,
            )

        kind = training_service_pb2.TrainDomainResponse
        return await answer_once(self._store.begin(), request, context, kind, act)


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


def _planned(
    counts: DomainCounts, policy: TrainingPolicy, plan: TrainingPlan, minutes: int
) -> training_service_pb2.TrainDomainResponse:
    kind = training_service_pb2.TrainingPlan
    return training_service_pb2.TrainDomainResponse(
        domain=counts.domain,
        status="planned",
        triplets_used=counts.triplets_count,
        estimated_completion_minutes=minutes,
        plan=kind(
            would_start=not plan.obstacles,
            obstacles=[
                kind.Obstacle(reason=ERRORS[type(error)].reason, message=str(error))
                for error in plan.obstacles
            ],
            triplets_pending=counts.triplets_pending_count,
            triplets_budget=policy.triplets_budget,
            budget_reached=counts.triplets_pending_count >= policy.triplets_budget,
            incumbent=plan.incumbent,
            incumbent_pinned=plan.incumbent_pinned,
            gate_rules=RULES,
        ),
    )
