"""TrainingService: asking for runs, and when they start by themselves."""

from trine.scheduler.v1 import training_service_pb2 as pb
from trine.scheduler.v1 import training_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context
from services.chassis.replies import answer_once
from services.scheduler.core.errors import FieldInvalidError
from services.scheduler.core.estimate import HISTORY_RUNS, estimate_minutes
from services.scheduler.core.plan_training import TrainingPlan, plan_training
from services.scheduler.core.ports import (
    DomainCounts,
    SchedulerStore,
    SchedulerUnit,
    TripletCounts,
)
from services.scheduler.core.train_domain import train_domain
from services.scheduler.core.training_policy import PolicyChoice, TrainingPolicy, check_choice
from services.scheduler.core.verdict import RULES
from services.scheduler.rpc.errors import ERRORS


class TrainingServicer(training_service_pb2_grpc.TrainingServiceServicer):
    """Starts runs on demand and keeps policies."""

    def __init__(
        self, store: SchedulerStore, triplets: TripletCounts, defaults: TrainingPolicy
    ) -> None:
        self._store = store
        self._triplets = triplets
        self._defaults = defaults

    async def TrainDomain(
        self, request: pb.TrainDomainRequest, context: Context
    ) -> pb.TrainDomainResponse:
        counts = await self._domain(request.domain)
        policy = await self._policy(counts)
        history = await self._store.past_runs(HISTORY_RUNS)
        ahead = await self._store.queued_count()
        minutes = estimate_minutes(history, counts.examples_count, ahead)
        if request.dry_run:
            plan = await plan_training(
                self._store, self._triplets, counts, policy, force=request.force
            )
            return _planned(counts, policy, plan, minutes)

        async def act(unit: SchedulerUnit) -> pb.TrainDomainResponse:
            run = await train_domain(unit, counts, policy, force=request.force)
            crashpoint("scheduler.run.written")
            return pb.TrainDomainResponse(
                domain=run.job.domain,
                status=run.state,
                run_id=run.run_id,
                triplets_used=run.job.triplets_count,
                estimated_completion_minutes=minutes,
            )

        kind = pb.TrainDomainResponse
        response = await answer_once(self._store.begin(counts.tenant), request, context, kind, act)
        crashpoint("scheduler.run.committed")
        return response

    async def GetTrainingPolicy(
        self, request: pb.GetTrainingPolicyRequest, context: Context
    ) -> pb.TrainingPolicy:
        counts = await self._domain(request.domain)
        return _policy_to_proto(counts.domain, await self._policy(counts))

    async def PutTrainingPolicy(
        self, request: pb.PutTrainingPolicyRequest, context: Context
    ) -> pb.TrainingPolicy:
        wish = request.policy
        counts = await self._domain(wish.domain)
        choice = _choice(wish)
        check_choice(choice)
        async with self._store.begin(counts.tenant) as unit:
            await unit.save_policy(counts.tenant, counts.domain, choice)
        return _policy_to_proto(counts.domain, choice.over(self._defaults))

    async def _domain(self, domain: str) -> DomainCounts:
        if not domain:
            raise FieldInvalidError("domain", "must be given")
        return await self._triplets.get(current_tenant(), domain)

    async def _policy(self, counts: DomainCounts) -> TrainingPolicy:
        choice = await self._store.read_policy(counts.tenant, counts.domain)
        return choice.over(self._defaults)


def _choice(wish: pb.TrainingPolicy) -> PolicyChoice:
    return PolicyChoice(
        triplets_budget=wish.triplets_budget if wish.HasField("triplets_budget") else None,
        cool_down_seconds=wish.cool_down_seconds if wish.HasField("cool_down_seconds") else None,
        interval_seconds=wish.interval_seconds if wish.HasField("interval_seconds") else None,
    )


def _policy_to_proto(domain: str, policy: TrainingPolicy) -> pb.TrainingPolicy:
    return pb.TrainingPolicy(
        domain=domain,
        triplets_budget=policy.triplets_budget,
        cool_down_seconds=round(policy.cool_down.total_seconds()),
        interval_seconds=round(policy.interval.total_seconds()),
    )


def _planned(
    counts: DomainCounts, policy: TrainingPolicy, plan: TrainingPlan, minutes: int
) -> pb.TrainDomainResponse:
    kind = pb.TrainingPlan
    return pb.TrainDomainResponse(
        domain=counts.domain,
        status="planned",
        triplets_used=counts.examples_count,
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
            outcomes_count=plan.outcomes.outcomes_count,
            positives_count=plan.outcomes.positives_count,
            seekers_count=plan.outcomes.seekers_count,
        ),
    )
