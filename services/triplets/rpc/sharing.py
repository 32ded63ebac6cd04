"""SharingService: a tenant's consent, between wire and core."""

from trine.triplets.v1 import sharing_service_pb2 as pb
from trine.triplets.v1 import sharing_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.triplets.core.errors import DomainNotFoundError
from services.triplets.core.ports import TripletStore
from services.triplets.core.sharing import share_domain


class SharingServicer(sharing_service_pb2_grpc.SharingServiceServicer):
    """Reads and gives consent."""

    def __init__(self, store: TripletStore) -> None:
        self._store = store

    async def GetSharing(self, request: pb.GetSharingRequest, context: Context) -> pb.Sharing:
        shared = await self._store.read_shared(current_tenant(), request.domain)
        if shared is None:
            raise DomainNotFoundError(request.domain)
        return pb.Sharing(domain=request.domain, enabled=shared)

    async def PutSharing(self, request: pb.PutSharingRequest, context: Context) -> pb.Sharing:
        wish = request.sharing
        async with self._store.open_domain(current_tenant(), wish.domain) as unit:
            await share_domain(unit, enabled=wish.enabled)
        return pb.Sharing(domain=wish.domain, enabled=wish.enabled)
