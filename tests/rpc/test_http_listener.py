"""The gateway's HTTP listener: who may call, what is told of errors, and answers that break off."""

import io
from collections.abc import AsyncIterator, Mapping

import aiohttp
import grpc
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from services.chassis.auth import Authenticator
from services.chassis.author import REQUEST_ID_CHARACTERS_MAX
from services.chassis.clock import SystemClock
from services.chassis.errors import PublicError
from services.gateway.core.errors import FieldInvalidError
from services.gateway.facades.openai.answers import refuse
from services.gateway.http import ANSWERED, JSON_BYTES_MAX, Call, Dialect, Route, listening
from services.gateway.rpc import ERRORS
from tests.support.server import ACME_KEY, MESH_TOKEN, free_address, generous, resolve


async def tell(call: Call) -> web.StreamResponse:
    return web.json_response({"tenant": call.tenant})


async def read(call: Call) -> web.StreamResponse:
    return web.json_response({"bytes": len(await call.request.read())})


async def break_a_rule(call: Call) -> web.StreamResponse:
    raise FieldInvalidError("seed", "an integer")


async def fail(call: Call) -> web.StreamResponse:
    raise RuntimeError("secret")


async def ask_a_service_that_is_away(call: Call) -> web.StreamResponse:
    raise grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "secret"
    )


async def ask_a_service_that_refuses(call: Call) -> web.StreamResponse:
    public = PublicError(grpc.StatusCode.FAILED_PRECONDITION, "RUN_ENDED", "It has ended.")
    trailing = grpc.aio.Metadata(*public.trailing_metadata())
    raise grpc.aio.AioRpcError(public.code, grpc.aio.Metadata(), trailing, public.message)


async def break_off(call: Call) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 10
    await response.prepare(call.request)
    await response.write(b"half")
    raise RuntimeError


def headers(_request: web.Request, seconds: float) -> Mapping[str, str]:
    return {"x-took": "yes"} if seconds >= 0 else {}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    address = free_address()
    answers = (tell, read, break_a_rule, fail, break_off)
    asking = (ask_a_service_that_is_away, ask_a_service_that_refuses)
    routes = [
        Route("POST", f"/{answer.__name__}", "files:read", answer) for answer in answers + asking
    ]
    routes.append(Route("POST", "/lacking", "no:such", tell))
    authenticator = Authenticator(resolve, MESH_TOKEN, SystemClock())
    dialect = Dialect("test", "/v9", routes, refuse, headers)
    async with (
        listening(address, authenticator, ERRORS, generous(), [dialect]),
        aiohttp.ClientSession(
            f"http://{address}/v9/", headers={"Authorization": f"Bearer {ACME_KEY}"}
        ) as session,
    ):
        yield session


async def test_the_tenant_comes_from_the_key(client: aiohttp.ClientSession) -> None:
    async with client.post("tell", headers={"x-request-id": "abc"}) as response:
        assert await response.json() == {"tenant": "acme"}
        assert response.headers["x-request-id"] == "abc"
        assert response.headers["x-took"] == "yes"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("break_a_rule", 400, "field_invalid"),
        ("fail", 500, "internal"),
        ("ask_a_service_that_is_away", 503, "service_unavailable"),
        ("ask_a_service_that_refuses", 409, "run_ended"),
        ("lacking", 403, "scope_missing"),
        ("nowhere", 404, "method_not_found"),
    ],
)
async def test_errors_are_told_in_the_dialects_envelope(
    client: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    async with client.post(path, data=io.BytesIO(bytes(3 * JSON_BYTES_MAX))) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, code)
        assert response.headers["x-request-id"]
        assert response.headers["x-took"] == "yes"
        assert "secret" not in error["message"]


@pytest.mark.parametrize("key", ["", "Basic x", "Bearer trine_x"])
async def test_nobody_is_told_nothing(client: aiohttp.ClientSession, key: str) -> None:
    async with client.post("tell", headers={"Authorization": key}) as response:
        assert response.status == 401


async def test_a_body_that_is_read_as_a_whole_has_its_limit(client: aiohttp.ClientSession) -> None:
    async with client.post("read", data=io.BytesIO(bytes(JSON_BYTES_MAX))) as response:
        assert await response.json() == {"bytes": JSON_BYTES_MAX}
    async with client.post("read", data=io.BytesIO(bytes(JSON_BYTES_MAX + 1))) as response:
        assert response.status == 413


async def test_an_answer_that_fails_midway_is_seen_to_be_short(
    client: aiohttp.ClientSession,
) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.post("break_off") as response:
            await response.read()
    async with client.post("tell") as response:
        assert response.status == 200


async def test_a_request_id_that_cannot_be_kept_is_replaced(client: aiohttp.ClientSession) -> None:
    """What is answered is what stands with the changes that the call has made."""
    for length, told in ((REQUEST_ID_CHARACTERS_MAX, 64), (REQUEST_ID_CHARACTERS_MAX + 1, 32)):
        async with client.post("tell", headers={"x-request-id": "x" * length}) as response:
            assert len(response.headers["x-request-id"]) == told


async def test_a_method_that_nobody_answers_is_no_line_of_the_metrics(
    client: aiohttp.ClientSession,
) -> None:
    before = counted("*", "/v9/{path:.*}")
    methods = {"PROPFIND", "MKCOL", "UNLOCK"}
    for method in methods:
        async with client.request(method, "tell") as response:
            assert response.status == 404
    assert counted("*", "/v9/{path:.*}") == before + 3
    told = {sample.labels["method"] for metric in ANSWERED.collect() for sample in metric.samples}
    assert not methods & told


def counted(method: str, route: str) -> float:
    """Calls of a route that found nothing."""
    labels = {"dialect": "test", "method": method, "route": route, "status": "404"}
    return REGISTRY.get_sample_value("trine_http_requests_total", labels) or 0.0
