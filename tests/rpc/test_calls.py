"""What surrounds every RPC: health, reflection, metrics, and exceptions that stay inside."""

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from trine.triplets.v1 import domain_service_pb2 as pb
from trine.triplets.v1 import (
    domain_service_pb2_grpc,
    profile_service_pb2,
    profile_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)

from services.chassis.errors import read_error_info
from services.chassis.server import DRAIN_SECONDS
from services.triplets.core.ports import DomainCounts
from services.triplets.memory import MemoryTripletStore
from services.triplets.rpc.domains import DomainServicer
from services.triplets.rpc.errors import ERRORS
from services.triplets.rpc.profiles import ProfileServicer
from tests.support.server import ACME, MESH, free_address, refused, running

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


async def test_what_is_no_message_is_refused_once_its_caller_is_known(
    channel: grpc.aio.Channel,
) -> None:
    call: Any = channel.unary_unary(f"/{NAMES[0]}/GetDomain")
    refusal = await refused(call(b"\xff", metadata=MESH))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "REQUEST_MALFORMED"
    assert (await refused(call(b"\xff"))).code is grpc.StatusCode.PERMISSION_DENIED


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


async def test_a_stream_ends_with_the_service_and_not_after_it() -> None:
    def register(server: grpc.aio.Server) -> None:
        servicer = ProfileServicer(MemoryTripletStore())
        profile_service_pb2_grpc.add_ProfileServiceServicer_to_server(servicer, server)

    address = free_address()
    async with grpc.aio.insecure_channel(address) as caller:
        async with running(ERRORS, register, NAMES, address):
            stub = profile_service_pb2_grpc.ProfileServiceStub(caller)
            changes = stub.WatchProfiles(profile_service_pb2.WatchProfilesRequest(), metadata=MESH)
            assert await changes.read() == profile_service_pb2.WatchProfilesResponse()
            ended = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await changes.read()
    assert time.monotonic() - ended < DRAIN_SECONDS / 2
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert read_error_info(caught.value).reason == "SERVICE_UNAVAILABLE"


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
