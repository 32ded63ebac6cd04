"""RolloutService: how heads come into use, how far they are, and deciding that by hand."""

from collections.abc import Awaitable, Callable

from trine.scheduler.v1 import rollout_pb2, rollout_service_pb2_grpc
from trine.scheduler.v1 import rollout_service_pb2 as pb

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.interceptors import Context
from services.scheduler.core.advance_rollouts import abort_rollout, promote_rollout
from services.scheduler.core.errors import FieldInvalidError, RolloutNotFoundError
from services.scheduler.core.ports import (
    DomainCounts,
    SchedulerStore,
    SchedulerUnit,
    TripletCounts,
)
from services.scheduler.core.rollout import Rollout, ShadowFigures
from services.scheduler.core.rollout_policy import (
    CanaryPolicy,
    RolloutPolicy,
    ShadowPolicy,
    check_policy,
)
from services.scheduler.messages import rollout_policy_to_proto, rollout_to_proto
from services.scheduler.metrics import HEAD_PROMOTED
from services.scheduler.rpc.pages import page_size

SERVER_CHARACTERS_MAX = 64
ERROR_CHARACTERS_MAX = 1_000

Steer = Callable[[SchedulerUnit, Clock, str, str], Awaitable[Rollout]]


class RolloutServicer(rollout_service_pb2_grpc.RolloutServiceServicer):
    """Reads and steers rollouts, and keeps policies."""

    def __init__(self, store: SchedulerStore, triplets: TripletCounts, clock: Clock) -> None:
        self._store = store
        self._triplets = triplets
        self._clock = clock

    async def GetRolloutPolicy(
        self, request: pb.GetRolloutPolicyRequest, context: Context
    ) -> rollout_pb2.RolloutPolicy:
        counts = await self._domain(request.domain)
        policy = await self._store.read_rollout_policy(counts.tenant, counts.domain)
        return rollout_policy_to_proto(counts.domain, policy)

    async def PutRolloutPolicy(
        self, request: pb.PutRolloutPolicyRequest, context: Context
    ) -> rollout_pb2.RolloutPolicy:
        counts = await self._domain(request.policy.domain)
        policy = _policy(request.policy)
        check_policy(policy)
        async with self._store.begin(counts.tenant) as unit:
            await unit.save_rollout_policy(counts.tenant, counts.domain, policy)
        return rollout_policy_to_proto(counts.domain, policy)

    async def ListRollouts(
        self, request: pb.ListRolloutsRequest, context: Context
    ) -> pb.ListRolloutsResponse:
        size = page_size(request.page_size)
        found = await self._store.list_rollouts(
            current_tenant(), request.domain, request.page_token, size + 1
        )
        return pb.ListRolloutsResponse(
            rollouts=[rollout_to_proto(rollout) for rollout in found[:size]],
            next_page_token=found[size - 1].rollout_id if len(found) > size else "",
        )

    async def GetRollout(
        self, request: pb.GetRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        rollout = await self._store.read_rollout(current_tenant(), request.rollout_id)
        if rollout is None:
            raise RolloutNotFoundError(request.rollout_id)
        return rollout_to_proto(rollout)

    async def AbortRollout(
        self, request: pb.AbortRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        return await self._steer(abort_rollout, request.rollout_id)

    async def PromoteRollout(
        self, request: pb.PromoteRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        promoted = await self._steer(promote_rollout, request.rollout_id)
        HEAD_PROMOTED.labels(current_tenant(), promoted.domain).set_to_current_time()
        return promoted

    async def ReportChallenger(
        self, request: pb.ReportChallengerRequest, context: Context
    ) -> pb.ReportChallengerResponse:
        if not 1 <= len(request.server) <= SERVER_CHARACTERS_MAX:
            raise FieldInvalidError("server", f"must have 1 to {SERVER_CHARACTERS_MAX} characters")
        figures = ShadowFigures(
            matches_count=request.matches_count,
            errors_count=request.errors_count,
            dropped_count=request.dropped_count,
            overlap_sum=request.overlap_sum,
            rank_correlation_sum=request.rank_correlation_sum,
            correlated_count=request.correlated_count,
            challenger_seconds_sum=request.challenger_seconds_sum,
            incumbent_seconds_sum=request.incumbent_seconds_sum,
            error=request.error[:ERROR_CHARACTERS_MAX],
        )
        async with self._store.begin(request.tenant) as unit:
            await unit.save_figures(request.tenant, request.rollout_id, request.server, figures)
        return pb.ReportChallengerResponse()

    async def _steer(self, act: Steer, rollout_id: str) -> rollout_pb2.Rollout:
        async with self._store.begin(current_tenant()) as unit:
            rollout = await act(unit, self._clock, current_tenant(), rollout_id)
        return rollout_to_proto(rollout)

    async def _domain(self, domain: str) -> DomainCounts:
        if not domain:
            raise FieldInvalidError("domain", "must be given")
        return await self._triplets.get(current_tenant(), domain)


def _policy(wish: rollout_pb2.RolloutPolicy) -> RolloutPolicy:
    """The steps that were asked for; what is left out of a step has its default."""
    shadow = {field.name: value for field, value in wish.shadow.ListFields()}
    canary = {field.name: value for field, value in wish.canary.ListFields()}
    return RolloutPolicy(
        shadow=ShadowPolicy(**shadow) if wish.HasField("shadow") else None,
        canary=CanaryPolicy(**canary) if wish.HasField("canary") else None,
    )
