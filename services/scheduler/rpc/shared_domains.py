"""SharedDomainService: what operators ask of domains that tenants share."""

from trine.scheduler.v1 import shared_domain_service_pb2 as pb
from trine.scheduler.v1 import shared_domain_service_pb2_grpc

from services.chassis.interceptors import Context
from services.scheduler.core.errors import FieldInvalidError, RunNotFoundError
from services.scheduler.core.head import SHARED
from services.scheduler.core.ports import Clock, SchedulerStore, TripletCounts
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.train_domain import train_domain
from services.scheduler.core.training_policy import TrainingPolicy
from services.scheduler.messages import run_to_proto
from services.scheduler.metrics import ROLLBACKS


class SharedDomainServicer(shared_domain_service_pb2_grpc.SharedDomainServiceServicer):
    """Trains shared domains and takes their heads back."""

    def __init__(
        self, store: SchedulerStore, triplets: TripletCounts, clock: Clock, policy: TrainingPolicy
    ) -> None:
        self._store = store
        self._clock = clock
        self._triplets = triplets
        self._policy = policy

    async def TrainSharedDomain(
        self, request: pb.TrainSharedDomainRequest, context: Context
    ) -> pb.TrainSharedDomainResponse:
        counts = await self._triplets.get(SHARED, _domain(request.domain))
        async with self._store.begin(SHARED) as unit:
            run = await train_domain(unit, counts, self._policy, force=request.force)
        return pb.TrainSharedDomainResponse(run_id=run.run_id, triplets_used=run.job.triplets_count)

    async def GetSharedRun(
        self, request: pb.GetSharedRunRequest, context: Context
    ) -> pb.GetSharedRunResponse:
        run = await self._store.read_run(SHARED, request.run_id)
        if run is None:
            raise RunNotFoundError(request.run_id)
        return pb.GetSharedRunResponse(run=run_to_proto(run))

    async def RollBackSharedHead(
        self, request: pb.RollBackSharedHeadRequest, context: Context
    ) -> pb.RollBackSharedHeadResponse:
        domain = _domain(request.domain)
        async with self._store.begin(SHARED) as unit:
            head, rolled_back = await roll_back_head(
                unit, self._clock, SHARED, domain, request.head
            )
        ROLLBACKS.inc()
        return pb.RollBackSharedHeadResponse(head=head, rolled_back_head=rolled_back)


def _domain(domain: str) -> str:
    if not domain:
        raise FieldInvalidError("domain", "must be given")
    return domain
