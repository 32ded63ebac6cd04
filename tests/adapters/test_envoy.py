"""Envoy as it is configured, alone: what it lets through to whom, what it cuts, and in which words.

Behind it stand servers that note what arrives. Times are short here.
"""

import asyncio
import importlib
import ipaddress
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trine.scheduler.v1 import run_pb2, run_service_pb2, run_service_pb2_grpc
from trine.serving.v1 import match_service_pb2, match_service_pb2_grpc

from services.chassis.auth import required_scope
from services.chassis.errors import PublicError
from services.mesh import programs
from services.mesh.home import Home, choose_ports
from tests.support.mesh import read_refusal, set_environment, until

GEN = programs.DEPLOY.parent / "gen"
HEADERS_SECONDS, REQUEST_SECONDS = 0.5, 1.0
SLOW_CLIENTS = 30
POST = b"POST /v1/match HTTP/1.1\r\nhost: x\r\n"
CONNECTIONS_MAX = 120
CALLS_AT_ONCE = 40
LONG_SECONDS = REQUEST_SECONDS + 0.6
BUSY = PublicError(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", "Not now.", {"a": "b"}, retry_seconds=1.5
)


@dataclass
class Edge:
    """A running Envoy and what has got through to the servers behind it."""

    host: str
    port: int
    admin: str
    metadata: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10))

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Calls with whatever headers and body."""
        return self.client.request(method, self.url + path, **content)

    def is_ready(self) -> bool:
        """Whether Envoy says that it is."""
        try:
            return self.client.get(self.admin + "/ready").status_code == 200
        except httpx.TransportError:
            return False

    def told(self) -> dict[str, Any]:
        """The metadata of the call that got through last."""
        return self.metadata[-1]


class Matches(match_service_pb2_grpc.MatchServiceServicer):
    """Notes who calls; says busy to the user "busy", and answers the user "slow" late."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def FindMatches(  # noqa: N802  # as the proto has it
        self, request: Any, context: Any
    ) -> Any:
        self._edge.metadata.append(dict(context.invocation_metadata()))
        if request.user_id == "slow":
            time.sleep(LONG_SECONDS)
        if request.user_id == "busy":
            context.set_trailing_metadata(BUSY.trailing_metadata())
            context.abort(BUSY.code, BUSY.message)
        return match_service_pb2.FindMatchesResponse(match_id="m")


class Runs(run_service_pb2_grpc.RunServiceServicer):
    """Tells of a run for longer than a request may take."""

    def WatchRun(self, request: Any, context: Any) -> Any:  # noqa: N802  # so too
        for number in range(8):
            yield run_pb2.Run(run_id=str(number))
            time.sleep(LONG_SECONDS / 8)


def listener(edge: Edge, port: int) -> ThreadingHTTPServer:
    """The gateway's HTTP listener, as far as it matters here."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # so the library wants it
            body = self.rfile.read(int(self.headers["content-length"]))
            edge.metadata.append({name.lower(): value for name, value in self.headers.items()})
            edge.bodies.append(len(body))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Answering)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    home, ports = Home(tmp_path_factory.mktemp("edge")), choose_ports()
    for folder in (home.config, home.logs):
        folder.mkdir()
    made = Edge("127.0.0.1", ports["envoy"], f"http://127.0.0.1:{ports['envoy_admin']}")
    serving: Any = grpc.server(futures.ThreadPoolExecutor(8))
    scheduler: Any = grpc.server(futures.ThreadPoolExecutor(8))
    match_service_pb2_grpc.add_MatchServiceServicer_to_server(Matches(made), serving)  # type: ignore[abstract]
    run_service_pb2_grpc.add_RunServiceServicer_to_server(Runs(), scheduler)  # type: ignore[abstract]
    http = listener(made, ports["gateway_http"])
    threading.Thread(target=http.serve_forever, daemon=True).start()
    for server, name in ((serving, "serving"), (scheduler, "scheduler")):
        server.add_insecure_port(f"127.0.0.1:{ports[name]}")
        server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "CONNECTIONS_MAX", CONNECTIONS_MAX)
        times = {"HEADERS": HEADERS_SECONDS, "REQUEST": REQUEST_SECONDS}
        settings = {f"TRINE_{name}_SECONDS": str(at) for name, at in times.items()}
        with set_environment(**settings, TRINE_CALLS_AT_ONCE=str(CALLS_AT_ONCE)):
            spec = programs.envoy(home, ports)
    with spec.log.open("wb") as log, subprocess.Popen(spec.command, stdout=log, stderr=log) as run:
        try:
            until(lambda: made.is_ready() or None, seconds_max=20, pause=0.05)
            yield made
        finally:
            made.client.close()
            run.terminate()
            http.shutdown()
            http.server_close()
            for server in (serving, scheduler):
                server.stop(0).wait()


@contextmanager
def grpc_channel(edge: Edge) -> Iterator[Any]:
    """A channel that waits for answers: the stubs' types know none such."""
    with grpc.insecure_channel(f"{edge.host}:{edge.port}") as channel:
        yield channel


async def exchange(edge: Edge, start: bytes, drip: bytes = b"") -> tuple[bytes, float]:
    """Sends bytes, then others bit by bit; returns what is answered and after how many seconds."""
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    began = time.monotonic()
    writer.write(start)

    async def go_on() -> None:
        while drip:
            await asyncio.sleep(0.1)
            writer.write(drip)

    dripping = asyncio.create_task(go_on())
    try:
        answer = await asyncio.wait_for(reader.read(64 * 1024), 8)
    finally:
        dripping.cancel()
        writer.close()
    return answer, time.monotonic() - began


@pytest.mark.parametrize(
    ("start", "drip", "seconds"),
    [
        (b"POST /v1/match HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n", HEADERS_SECONDS),
        (
            b"POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n",
            b" ",
            REQUEST_SECONDS,
        ),
    ],
    ids=["headers", "body"],
)
async def test_who_sends_bit_by_bit_is_cut_and_told_so(
    edge: Edge, start: bytes, drip: bytes, seconds: float
) -> None:
    answers = await asyncio.gather(*(exchange(edge, start, drip) for _ in range(SLOW_CLIENTS)))
    for answer, after in answers:
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"reason":"REQUEST_TOO_SLOW"' in answer
        assert seconds - 0.1 < after < seconds + 2


async def test_a_file_may_take_longer_than_a_request(edge: Edge) -> None:
    length = int(LONG_SECONDS * 10)
    start = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()
    answer, after = await exchange(edge, start, b"x")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert after > REQUEST_SECONDS
    assert edge.bodies[-1] == length


def test_an_answer_that_takes_too_long_is_given_up(edge: Edge) -> None:
    refusal = read_refusal(edge.ask("POST", "/v1/match", json={"user_id": "slow"}))
    assert (refusal["status"], refusal["reason"]) == (504, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_watched_run_may_last(edge: Edge, transport: str) -> None:
    if transport == "rest":
        lines = edge.ask("GET", "/v1/runs/r:watch").text.split()
        assert len(lines) == 8
        return
    with grpc_channel(edge) as channel:
        stub: Any = run_service_pb2_grpc.RunServiceStub(channel)
        told = list(stub.WatchRun(run_service_pb2.WatchRunRequest(run_id="r")))
    assert [run.run_id for run in told] == [str(number) for number in range(8)]


@pytest.mark.parametrize(
    "headers",
    [[(f"h{number}", "x") for number in range(120)], [("h", "x" * 33_000)]],
    ids=["many", "long"],
)
def test_too_many_headers_are_refused(edge: Edge, headers: list[tuple[str, str]]) -> None:
    refusal = read_refusal(edge.ask("POST", "/v1/match", json={}, headers=headers))
    assert (refusal["status"], refusal["reason"]) == (431, "REQUEST_MALFORMED")


SPELLINGS = ["trine-mesh-token", "Trine-Mesh-Token", "TRINE-MESH-TOKEN", "tRiNe-mEsH-tOkEn"]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("path", ["/v1/match", "/v1/embeddings"])
def test_the_meshs_own_header_does_not_come_from_outside(edge: Edge, name: str, path: str) -> None:
    headers = [(name, "guess"), (name, "again")]
    assert edge.ask("POST", path, json={}, headers=headers).status_code == 200
    assert "trine-mesh-token" not in edge.told()


def test_the_meshs_own_header_does_not_come_by_grpc_either(edge: Edge) -> None:
    with grpc_channel(edge) as channel:
        stub = match_service_pb2_grpc.MatchServiceStub(channel)
        stub.FindMatches(
            match_service_pb2.FindMatchesRequest(), metadata=[("trine-mesh-token", "guess")]
        )
    assert "trine-mesh-token" not in edge.told()


@pytest.mark.parametrize("name", ["trine_mesh_token", "Trine_Mesh_Token", "x_forwarded_for"])
def test_names_with_underscores_are_refused(edge: Edge, name: str) -> None:
    response = edge.ask("POST", "/v1/match", json={}, headers={name: "x"})
    assert (response.status_code, read_refusal(response)["reason"]) == (400, "REQUEST_MALFORMED")


def test_whence_a_call_comes_is_the_edges_word(edge: Edge) -> None:
    edge.ask("POST", "/v1/match", json={}, headers={"x-forwarded-for": "198.51.100.7"})
    before, _, last = edge.told()["x-forwarded-for"].rpartition(",")
    assert before == "198.51.100.7"
    assert ipaddress.ip_address(last.strip()) != ipaddress.ip_address(before)


def methods_by_scope() -> dict[str, str]:
    """The scope of every RPC of ours, by the RPC's path."""
    scopes = {}
    for module in sorted(GEN.rglob("*_service_pb2.py")):
        name = ".".join(module.relative_to(GEN).with_suffix("").parts)
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                scopes[path] = required_scope(path)
    return scopes


INTERNAL = sorted(path for path, scope in methods_by_scope().items() if not scope)
PUBLIC = sorted(path for path, scope in methods_by_scope().items() if scope)


def called(edge: Edge, paths: list[str]) -> dict[str, grpc.StatusCode]:
    """What comes of calling each path over gRPC with an empty message."""
    codes = dict.fromkeys(paths, grpc.StatusCode.OK)
    with grpc_channel(edge) as channel:
        for path in paths:
            try:
                channel.unary_unary(path)(b"", timeout=10, metadata=[("trine-mesh-token", "x")])
            except grpc.RpcError as error:
                codes[path] = error.code()
    return codes


def test_there_are_rpcs_of_both_kinds() -> None:
    assert len(INTERNAL) > 30
    assert len(PUBLIC) > 30


def test_internal_rpcs_are_reached_neither_by_grpc_nor_by_rest(edge: Edge) -> None:
    asked = len(edge.metadata)
    assert set(called(edge, INTERNAL).values()) == {grpc.StatusCode.UNIMPLEMENTED}
    for path in INTERNAL:
        for spelt in (path, f"/v1/..{path}", path.lower()):
            assert read_refusal(edge.ask("POST", spelt))["status"] == 404
    assert len(edge.metadata) == asked


def test_every_public_rpc_has_its_way_in(edge: Edge) -> None:
    codes = called(edge, [path for path in PUBLIC if not path.endswith("/WatchRun")])
    # Where nobody stands behind the edge here it says so, which is not "there is no such RPC".
    away, there = grpc.StatusCode.UNAVAILABLE, ("/trine.serving.v1.M", "/trine.scheduler.v1.")
    assert {code for path, code in codes.items() if not path.startswith(there)} == {away}
    assert codes["/trine.serving.v1.MatchService/FindMatches"] is grpc.StatusCode.OK


async def test_reflection_is_not_told_outside(edge: Edge) -> None:
    async with grpc.aio.insecure_channel(f"{edge.host}:{edge.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.ServerReflectionInfo(iter([request])):
                pass
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("GET /", 404),
        ("GET /v1/nowhere", 404),
        ("DELETE /v1/match", 404),
        ("GET /v1/match", 404),
        ("GET /V1/match", 404),
        ("GET /v1/runs?colour=red", 400),
        ("GET /v1%2Fruns", 400),
        ("GET /v1/runs/..%2f..%2fx", 400),
        ("GET /v1/runs/%00", 400),
        ("GET /admin/../stats", 404),
    ],
)
def test_a_path_verb_or_parameter_that_is_not_ours_is_refused_in_json(
    edge: Edge, call: str, status: int
) -> None:
    method, path = call.split(" ")
    refusal = read_refusal(edge.ask(method, path))
    assert refusal["status"] == status
    assert refusal["message"].strip()


@pytest.mark.parametrize("path", ["/v1//match", "//v1/match", "/x/../v1/match", "/v1/./match"])
def test_a_path_is_read_in_its_plain_form(edge: Edge, path: str) -> None:
    request = edge.client.build_request("POST", edge.url, json={"user_id": "u"})
    request.url = request.url.copy_with(raw_path=path.encode())
    assert edge.client.send(request).json()["match_id"] == "m"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 20_000 + b"]" * 20_000,
        b'{"filters":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
        b'{"user_id":"\xff\xfe"}',
        b'{"user_id":"\\ud800"}',
        b'{"limit":99999999999999999999}',
        b'{"limit":1.5}',
        b'{"limit":"ten"}',
        b'{"filters":[1]}',
        b'{"user_id":{}}',
        b"null",
        b"\x00",
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_a_body_that_is_not_what_the_method_takes_is_refused_in_json(
    edge: Edge, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    refusal = read_refusal(edge.ask("POST", "/v1/match", content=body, headers=headers))
    assert (refusal["status"], refusal["reason"]) == (400, "REQUEST_MALFORMED")


def test_what_is_too_large_is_refused_by_rest_and_by_grpc(edge: Edge) -> None:
    refusal = read_refusal(edge.ask("POST", "/v1/match", json={"user_id": "x" * 4_000_000}))
    assert (refusal["status"], refusal["reason"]) == (413, "REQUEST_TOO_LARGE")
    with grpc_channel(edge) as channel:
        stub = match_service_pb2_grpc.MatchServiceStub(channel)
        stub.FindMatches(match_service_pb2.FindMatchesRequest(user_id="x" * 4_190_000))
        with pytest.raises(grpc.RpcError) as caught:
            stub.FindMatches(match_service_pb2.FindMatchesRequest(user_id="x" * 4_194_304))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_errors_details_and_its_retry_after_reach_rest(edge: Edge) -> None:
    response = edge.ask("POST", "/v1/match", json={"user_id": "busy"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    info, retry = response.json()["details"]
    assert (info["reason"], info["metadata"]) == ("OVERLOADED", {"a": "b"})
    assert retry["@type"].endswith("google.rpc.RetryInfo")
    assert retry["retry_delay"] == "1.500s"


def test_grpc_hears_of_a_service_that_is_away_in_a_sentence(edge: Edge) -> None:
    with (
        grpc_channel(edge) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/trine.triplets.v1.SchemaService/GetSchema")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "The service cannot be reached" in (caught.value.details() or "")


def test_rest_hears_of_a_service_that_is_away_and_when_to_call_again(edge: Edge) -> None:
    response = edge.ask("GET", "/v1/schema?domain=d")
    assert (response.status_code, read_refusal(response)["reason"]) == (503, "SERVICE_UNAVAILABLE")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/quitquitquit", "/config_dump", "/logging", "/runtime_modify"])
def test_the_admin_listener_shows_health_and_figures_and_nothing_else(
    edge: Edge, path: str
) -> None:
    for method in ("GET", "POST"):
        assert edge.client.request(method, edge.admin + path).status_code == 403
    for told in ("/ready", "/stats/prometheus"):
        assert edge.client.get(edge.admin + told).status_code == 200


async def test_connections_beyond_the_limit_are_closed_and_the_others_go_on(edge: Edge) -> None:
    async with httpx.AsyncClient(base_url=edge.url, timeout=10) as client:
        assert (await client.post("/v1/match", json={})).status_code == 200
        opened = [
            await asyncio.open_connection(edge.host, edge.port) for _ in range(CONNECTIONS_MAX + 20)
        ]
        reads = [asyncio.create_task(reader.read(1)) for reader, _ in opened]
        await asyncio.wait(reads, timeout=0.5)
        closed = sum(read.done() for read in reads)
        assert closed >= 20
        assert (await client.post("/v1/match", json={})).status_code == 200
        for read, (_, writer) in zip(reads, opened, strict=True):
            read.cancel()
            writer.close()


async def test_calls_beyond_what_serving_takes_at_once_are_told_to_come_again(edge: Edge) -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX)
    async with httpx.AsyncClient(base_url=edge.url, timeout=10, limits=limits) as client:
        slow = [client.post("/v1/match", json={"user_id": "slow"}) for _ in range(60)]
        answers = await asyncio.gather(*slow)
        shed = [answer for answer in answers if answer.status_code == 429]
        assert len(shed) == 60 - CALLS_AT_ONCE
        for answer in shed:
            assert read_refusal(answer)["reason"] == "OVERLOADED"
            assert answer.headers["retry-after"] == "1"
        assert (await client.post("/v1/match", json={})).status_code == 200


def test_over_grpc_they_are_told_so_too(edge: Edge) -> None:
    with grpc_channel(edge) as channel:
        stub: Any = match_service_pb2_grpc.MatchServiceStub(channel)
        slow = match_service_pb2.FindMatchesRequest(user_id="slow")
        calls = [stub.FindMatches.future(slow, timeout=10) for _ in range(60)]
        shed = [call for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(shed) == 60 - CALLS_AT_ONCE
        for call in shed:
            assert "Call again" in (call.details() or "")
            assert ("retry-after", "1") in [*call.initial_metadata(), *call.trailing_metadata()]


async def test_a_client_that_resets_stream_after_stream_is_cut_off(edge: Edge) -> None:
    # HTTP/2 by hand: GET / by static header fields, and a reset of each stream once it is open.
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b""))
    for stream in range(1, 8_000, 2):
        writer.write(h2_frame(1, 5, stream, b"\x82\x84\x86\x41\x01x"))
        writer.write(h2_frame(3, 0, stream, b"\0\0\0\x08"))
    with suppress(ConnectionResetError):
        while await asyncio.wait_for(reader.read(64 * 1024), 5):  # until it is closed
            pass
    writer.close()
    assert edge.ask("POST", "/v1/match", json={}).status_code == 200


def h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113 §4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload
