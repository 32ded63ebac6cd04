"""MatchingService: how a domain's matches are made."""

from trine.scheduler.v1 import matching_service_pb2 as pb
from trine.scheduler.v1 import matching_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.scheduler.core.errors import FieldInvalidError
from services.scheduler.core.matching_policy import MatchingPolicy, check_policy
from services.scheduler.core.ports import DomainCounts, SchedulerStore, TripletCounts


class MatchingServicer(matching_service_pb2_grpc.MatchingServiceServicer):
    """Keeps matching policies."""

    def __init__(self, store: SchedulerStore, triplets: TripletCounts) -> None:
        self._store = store
        self._triplets = triplets

    async def GetMatchingPolicy(
        self, request: pb.GetMatchingPolicyRequest, context: Context
    ) -> pb.MatchingPolicy:
        counts = await self._domain(request.domain)
        policy = await self._store.read_matching_policy(counts.tenant, counts.domain)
        return _to_proto(counts.domain, policy)

    async def PutMatchingPolicy(
        self, request: pb.PutMatchingPolicyRequest, context: Context
    ) -> pb.MatchingPolicy:
        counts = await self._domain(request.policy.domain)
        policy = MatchingPolicy(exploration=request.policy.exploration)
        check_policy(policy)
        async with self._store.begin(counts.tenant) as unit:
            await unit.save_matching_policy(counts.tenant, counts.domain, policy)
        return _to_proto(counts.domain, policy)

    async def _domain(self, domain: str) -> DomainCounts:
        if not domain:
            raise FieldInvalidError("domain", "must be given")
        return await self._triplets.get(current_tenant(), domain)


def _to_proto(domain: str, policy: MatchingPolicy) -> pb.MatchingPolicy:
    return pb.MatchingPolicy(domain=domain, exploration=policy.exploration)
