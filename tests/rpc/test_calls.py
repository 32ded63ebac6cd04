"""What surrounds every RPC: health, reflection, metrics, and exceptions that stay inside."""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from trine.triplets.v1 import domain_service_pb2 as pb
from trine.triplets.v1 import domain_service_pb2_grpc, user_service_pb2, user_service_pb2_grpc

from services.triplets.core.ports import DomainCounts
from services.triplets.memory import MemoryTripletStore
from services.triplets.rpc.domains import DomainServicer
from services.triplets.rpc.errors import ERRORS
from tests.support.server import ACME, MESH, refused, running

NAMES = ["trine.triplets.v1.DomainService"]
PASSWORD = "postgresql://trine:hunter2@db/triplets"


class BrokenStore(MemoryTripletStore):
    """Fails with a text that must not leave the service."""

    async def read_counts(self, tenant: str, domain: str) -> DomainCounts | None:
        raise RuntimeError(PASSWORD)


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    def register(server: grpc.aio.Server) -> None:
        servicer = DomainServicer(BrokenStore())
        domain_service_pb2_grpc.add_DomainServiceServicer_to_server(servicer, server)

    async with running(ERRORS, register, NAMES) as opened:
        yield opened


async def test_an_exceptions_text_stays_inside(
    channel: grpc.aio.Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = domain_service_pb2_grpc.DomainServiceStub(channel)
    refusal = await refused(stub.GetDomain(pb.GetDomainRequest(), metadata=MESH))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.reason == "INTERNAL"
    assert "hunter2" not in refusal.message + str(refusal.metadata)
    assert refusal.metadata["request_id"] in capsys.readouterr().out


async def test_an_internal_rpc_refuses_a_tenants_key(channel: grpc.aio.Channel) -> None:
    stub = domain_service_pb2_grpc.DomainServiceStub(channel)
    refusal = await refused(stub.GetDomain(pb.GetDomainRequest(), metadata=ACME))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "INTERNAL_RPC")
    assert refusal.domain == "trine"


async def test_a_method_that_nobody_serves_is_unimplemented(channel: grpc.aio.Channel) -> None:
    stub = user_service_pb2_grpc.UserServiceStub(channel)
    refusal = await refused(stub.GetUser(user_service_pb2.GetUserRequest(), metadata=ACME))
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_told_without_a_key(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", *NAMES):
        response = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for response in stub.ServerReflectionInfo(iter([request])):
        listed = {service.name for service in response.list_services_response.service}
        assert set(NAMES) <= listed
        break


async def test_calls_are_counted_under_the_names_of_go_grpc_prometheus(
    channel: grpc.aio.Channel,
) -> None:
    labels = {
        "grpc_type": "unary",
        "grpc_service": "trine.triplets.v1.DomainService",
        "grpc_method": "ListDomains",
    }
    stub = domain_service_pb2_grpc.DomainServiceStub(channel)
    before = REGISTRY.get_sample_value("grpc_server_started_total", labels) or 0
    await stub.ListDomains(pb.ListDomainsRequest(), metadata=MESH)
    await refused(stub.ListDomains(pb.ListDomainsRequest(page_size=-1), metadata=MESH))
    value = REGISTRY.get_sample_value
    assert value("grpc_server_started_total", labels) == before + 2
    for code in ("OK", "InvalidArgument"):
        handled = value("grpc_server_handled_total", labels | {"grpc_code": code})
        assert handled is not None
        assert handled >= 1
    assert value("grpc_server_handling_seconds_count", labels) == before + 2
