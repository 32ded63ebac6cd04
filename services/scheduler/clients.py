"""What the scheduler asks of other services: the triplet store's counts."""

import grpc
from trine.triplets.v1 import domain_service_pb2 as pb
from trine.triplets.v1 import domain_service_pb2_grpc

from services.scheduler.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    TripletsUnavailableError,
)
from services.scheduler.core.ports import DomainCounts


class TripletsClient:
    """The triplet store's counts over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = domain_service_pb2_grpc.DomainServiceStub(channel)

    async def get(self, tenant: str, domain: str) -> DomainCounts:
        """Returns the counts of a domain."""
        try:
            response = await self._stub.GetDomain(pb.GetDomainRequest(tenant=tenant, domain=domain))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise DomainNotFoundError(domain) from None
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise FieldInvalidError("domain", "cannot be a domain's name") from None
            raise TripletsUnavailableError from error
        return _counts(response.domain)

    async def list(self) -> list[DomainCounts]:
        """Returns the counts of all domains with triplets."""
        found: list[DomainCounts] = []
        token = ""
        while True:
            try:
                page = await self._stub.ListDomains(pb.ListDomainsRequest(page_token=token))
            except grpc.aio.AioRpcError as error:
                raise TripletsUnavailableError from error
            found += [_counts(domain) for domain in page.domains]
            token = page.next_page_token
            if not token:
                return found

    async def record_training(self, tenant: str, domain: str, triplets_count: int) -> None:
        """Tells how many triplets the last successful run saw."""
        request = pb.RecordTrainingRequest(
            tenant=tenant, domain=domain, trained_triplets_count=triplets_count
        )
        try:
            await self._stub.RecordTraining(request)
        except grpc.aio.AioRpcError as error:
            raise TripletsUnavailableError from error


def _counts(domain: pb.Domain) -> DomainCounts:
    return DomainCounts(
        tenant=domain.tenant,
        domain=domain.domain,
        revision=domain.revision,
        triplets_count=domain.triplets_count,
        trained_triplets_count=domain.trained_triplets_count,
    )
