"""What is over a limit is refused at once, says when to come again, and costs nobody else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest
from aiohttp import web
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from openai import OpenAI, RateLimitError
from trine.triplets.v1 import (
    domain_service_pb2,
    domain_service_pb2_grpc,
    schema_pb2,
    schema_service_pb2,
    schema_service_pb2_grpc,
)

from services.chassis.auth import Authenticator
from services.chassis.clock import SystemClock
from services.chassis.errors import STATUS_DETAILS_KEY
from services.chassis.interceptors import Context
from services.chassis.limits import CallLimits
from services.gateway.facades.archetype import answers as archetype
from services.gateway.facades.openai import answers as openai
from services.gateway.http import Call, Dialect, Route, listening
from services.gateway.rpc import ERRORS
from tests.support.server import (
    ACME,
    ACME_KEY,
    MESH,
    MESH_TOKEN,
    OTHER,
    free_address,
    refused,
    resolve,
    running,
)

NAMES = ["trine.triplets.v1.SchemaService"]


class SlowSchemas(schema_service_pb2_grpc.SchemaServiceServicer):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def GetSchema(
        self, request: schema_service_pb2.GetSchemaRequest, context: Context
    ) -> schema_pb2.Schema:
        await self.go_on.wait()
        return schema_pb2.Schema()


class Domains(domain_service_pb2_grpc.DomainServiceServicer):
    """Answers the mesh."""

    async def ListDomains(
        self, request: domain_service_pb2.ListDomainsRequest, context: Context
    ) -> domain_service_pb2.ListDomainsResponse:
        return domain_service_pb2.ListDomainsResponse()


@asynccontextmanager
async def schemas(
    rates: str, calls_at_once: int
) -> AsyncIterator[tuple[SlowSchemas, grpc.aio.Channel]]:
    servicer = SlowSchemas()  # type: ignore[abstract]  # nobody calls the rest

    def register(server: grpc.aio.Server) -> None:
        schema_service_pb2_grpc.add_SchemaServiceServicer_to_server(servicer, server)
        domains = Domains()  # type: ignore[abstract]  # nobody calls the rest
        domain_service_pb2_grpc.add_DomainServiceServicer_to_server(domains, server)

    limits = CallLimits(rates, calls_at_once, SystemClock())
    async with running({}, register, NAMES, limits=limits) as channel:
        yield servicer, channel


def get(
    channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ACME
) -> Awaitable[object]:
    stub = schema_service_pb2_grpc.SchemaServiceStub(channel)
    return stub.GetSchema(schema_service_pb2.GetSchemaRequest(domain="d"), metadata=metadata)


async def test_a_tenant_that_calls_too_often_hears_when_to_call_again() -> None:
    async with schemas("*=1000 schema:read=0.2", 10) as (servicer, channel):
        servicer.go_on.set()
        await get(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(channel)
        await get(channel, OTHER)  # another tenant has what is its own
    error = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(error.trailing_metadata() or ())
    assert 1 <= int(trailing["retry-after"]) <= 5
    status = status_pb2.Status.FromString(trailing[STATUS_DETAILS_KEY])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert info.reason == "RATE_LIMIT_EXCEEDED"
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 5


async def test_calls_beyond_the_places_are_shed_at_once_and_the_meshs_own_are_not() -> None:
    async with schemas("*=1000", 4) as (servicer, channel):
        held = [get(channel, metadata) for metadata in (ACME, ACME, OTHER, OTHER)]
        await asyncio.sleep(0.1)
        refusal = await asyncio.wait_for(refused(get(channel, OTHER)), 1)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
        )
        assert refusal.message.startswith("The service has as much to do")
        stub = domain_service_pb2_grpc.DomainServiceStub(channel)
        await stub.ListDomains(domain_service_pb2.ListDomainsRequest(), metadata=MESH)
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
        servicer.go_on.set()
        await asyncio.gather(*held)
        await get(channel)  # there are places again


async def test_a_tenant_holds_half_of_the_places_at_most() -> None:
    async with schemas("*=1000", 4) as (servicer, channel):
        held = [get(channel) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(refused(get(channel)), 1)).reason == "OVERLOADED"
        held.append(get(channel, OTHER))
        servicer.go_on.set()
        await asyncio.gather(*held)


async def tell(call: Call) -> web.StreamResponse:
    return web.json_response({"object": "list", "data": []})


@asynccontextmanager
async def listener(limits: CallLimits) -> AsyncIterator[str]:
    address = free_address()
    authenticator = Authenticator(resolve, MESH_TOKEN, SystemClock())
    routes = [Route("GET", "/models", "heads:read", tell)]
    dialects = [
        Dialect("openai", "/v1", routes, openai.refuse, lambda _request, _seconds: {}),
        Dialect("archetype", "/v0.5", routes, archetype.refuse, lambda _request, _seconds: {}),
    ]
    async with listening(address, authenticator, ERRORS, limits, dialects):
        yield f"http://{address}"


@pytest.mark.parametrize("prefix", ["/v1", "/v0.5"])
async def test_every_dialect_says_429_and_when_to_call_again(prefix: str) -> None:
    limits = CallLimits("*=0.2", 10, SystemClock())
    headers = {"Authorization": f"Bearer {ACME_KEY}"}
    async with listener(limits) as url, aiohttp.ClientSession(url, headers=headers) as client:
        async with client.get(f"{prefix}/models") as first:
            assert first.status == 200
        async with client.get(f"{prefix}/models") as second:
            assert second.status == 429
            assert 1 <= int(second.headers["retry-after"]) <= 5
            assert "rate_limit_exceeded" in await second.text()


async def test_the_openai_client_waits_as_long_as_it_is_told_and_gets_its_answer() -> None:
    limits = CallLimits("*=1", 10, SystemClock())

    def call_three_times(url: str) -> None:
        client = OpenAI(base_url=f"{url}/v1", api_key=ACME_KEY, max_retries=3)
        for _ in range(4):
            client.models.list()
        with pytest.raises(RateLimitError) as caught:
            client.with_options(max_retries=0).models.list()
        assert caught.value.code == "rate_limit_exceeded"

    async with listener(limits) as url:
        await asyncio.to_thread(call_three_times, url)
