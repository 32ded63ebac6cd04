"""The scheduler's view of the triplet store, over a real channel to one in memory."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trine.triplets.v1 import domain_service_pb2 as pb
from trine.triplets.v1 import domain_service_pb2_grpc

from services.scheduler.clients import TripletsClient
from services.scheduler.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    TripletsUnavailableError,
)
from tests.support.server import free_port


class Domains(domain_service_pb2_grpc.DomainServiceServicer):
    """Answers with a code, or with a domain of 7 triplets."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    async def GetDomain(  # noqa: N802  # gRPC's name
        self, request: pb.GetDomainRequest, context: Any
    ) -> pb.GetDomainResponse:
        if self.code is not None:
            await context.abort(self.code, "as a test wants it")
        return pb.GetDomainResponse(
            domain=pb.Domain(tenant=request.tenant, domain=request.domain, triplets_count=7)
        )

    async def ListDomains(  # noqa: N802
        self, request: pb.ListDomainsRequest, context: Any
    ) -> pb.ListDomainsResponse:
        raise NotImplementedError

    async def CountOutcomes(  # noqa: N802
        self, request: pb.CountOutcomesRequest, context: Any
    ) -> pb.CountOutcomesResponse:
        raise NotImplementedError

    async def RecordTraining(  # noqa: N802
        self, request: pb.RecordTrainingRequest, context: Any
    ) -> pb.RecordTrainingResponse:
        raise NotImplementedError


@pytest.fixture
async def asked() -> AsyncIterator[tuple[Domains, TripletsClient]]:
    """The store's side and the scheduler's."""
    address, domains = f"127.0.0.1:{free_port()}", Domains()
    server = grpc.aio.server()
    domain_service_pb2_grpc.add_DomainServiceServicer_to_server(domains, server)
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield domains, TripletsClient(channel)
    await server.stop(None)


async def test_a_domain_is_counted(asked: tuple[Domains, TripletsClient]) -> None:
    assert (await asked[1].get("acme", "dating")).triplets_count == 7


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, DomainNotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, FieldInvalidError),
        (grpc.StatusCode.UNAVAILABLE, TripletsUnavailableError),
        (grpc.StatusCode.INTERNAL, TripletsUnavailableError),
    ],
)
async def test_what_the_store_refuses_is_told_as_the_schedulers_own(
    asked: tuple[Domains, TripletsClient], code: grpc.StatusCode, error: type[Exception]
) -> None:
    domains, client = asked
    domains.code = code
    with pytest.raises(error):
        await client.get("acme", "da\0ting")
