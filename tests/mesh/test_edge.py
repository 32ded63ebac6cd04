"""The one public port: errors in one shape, gRPC beside REST, and nothing internal."""

import grpc
import httpx
import pytest
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trine.gateway.v1 import access_service_pb2, access_service_pb2_grpc
from trine.scheduler.v1 import lease_service_pb2, lease_service_pb2_grpc
from trine.serving.v1 import match_service_pb2, match_service_pb2_grpc
from trine.triplets.v1 import domain_service_pb2, domain_service_pb2_grpc

from services.chassis.api_key import mint_api_key
from services.chassis.errors import read_error_info
from tests.support.mesh import Json, Mesh, read_refusal, run_async, until

BIG = "x" * (5 * 1024 * 1024)


@pytest.fixture(scope="module", autouse=True)
def domain(mesh: Mesh) -> None:
    """Domains to be wrong in: one with people and outcomes, one with people alone."""
    mesh.fill("errors", 6)
    mesh.fill("empty", 2)
    until(lambda: True if mesh.http.post("/v1/match", json=MATCH).status_code == 200 else None)
    mesh.call("POST", "/v1/feedback", feedback(item("u0", "u1"), item("u0", "u2", "rejected")))


MATCH: Json = {"user_id": "u0", "domain": "errors"}


def item(seeker: str, candidate: str, outcome: str = "accepted", **content: object) -> Json:
    """One item of POST /v1/feedback."""
    return {"seeker_id": seeker, "candidate_id": candidate, "outcome": outcome, **content}


def feedback(*items: Json, domain: str = "errors", **content: object) -> Json:
    """A body of POST /v1/feedback."""
    return {"domain": domain, "items": list(items), **content}


Refusal = tuple[str, Json, int, str, str | None]

NOWHERE = {"domain": "nope"}
PERSON: Json = {"user_id": "u", "domain": "errors"}

REFUSALS: list[Refusal] = [
    ("POST /v1/match", MATCH | NOWHERE, 404, "DOMAIN_NOT_FOUND", None),
    ("POST /v1/match", MATCH | {"domain": ""}, 400, "FIELD_INVALID", "domain"),
    ("POST /v1/match", MATCH | {"user_id": "nobody"}, 404, "USER_NOT_FOUND", "user_id"),
    ("POST /v1/match", MATCH | {"user_id": ""}, 400, "FIELD_INVALID", "user_id"),
    ("POST /v1/match", MATCH | {"limit": 0}, 400, "FIELD_INVALID", "limit"),
    ("POST /v1/match", MATCH | {"limit": 1001}, 400, "FIELD_INVALID", "limit"),
    ("POST /v1/match", MATCH | {"limit": "ten"}, 400, "REQUEST_MALFORMED", None),
    ("POST /v1/match", MATCH | {"filters": {"shoe": 4}}, 400, "FILTER_INVALID", "filters.shoe"),
    ("POST /v1/match", MATCH | {"filters": {"age": "x"}}, 400, "FILTER_INVALID", "filters.age"),
    ("POST /v1/match", MATCH | {"filters": [1]}, 400, "REQUEST_MALFORMED", None),
    ("POST /v1/match", MATCH | {"stages": {"magic": True}}, 400, "FIELD_INVALID", "stages.magic"),
    ("POST /v1/feedback", feedback(), 400, "FIELD_INVALID", "items"),
    ("POST /v1/feedback", feedback(*[item("u0", "u1")] * 1001), 400, "FIELD_INVALID", "items"),
    (
        "POST /v1/feedback",
        feedback(item("u0", "u1", "x")),
        400,
        "LABEL_UNKNOWN",
        "items[0].outcome",
    ),
    (
        "POST /v1/feedback",
        feedback(item("u0", "x")),
        404,
        "USER_NOT_FOUND",
        "items[0].candidate_id",
    ),
    ("POST /v1/feedback", feedback(item("u0", "u1")) | NOWHERE, 404, "DOMAIN_NOT_FOUND", None),
    ("POST /v1/feedback", feedback(item("u0", "u1", weight="x")), 400, "REQUEST_MALFORMED", None),
    (
        "POST /v1/feedback",
        feedback(item("u0", "u\0")),
        400,
        "FIELD_INVALID",
        "items[0].candidate_id",
    ),
    ("POST /v1/feedback", {"domain": BIG}, 413, "REQUEST_TOO_LARGE", None),
    ("POST /v1/users", PERSON | NOWHERE, 404, "DOMAIN_NOT_FOUND", None),
    ("POST /v1/users", PERSON, 400, "FIELD_INVALID", "context"),
    ("POST /v1/users", PERSON | {"fields": {"age": "x"}}, 400, "FIELD_INVALID", "fields.age"),
    ("POST /v1/users", PERSON | {"memory_ref": "m"}, 400, "MEMORY_RESOLVER_MISSING", "memory_ref"),
    ("GET /v1/users/nobody?domain=errors", {}, 404, "USER_NOT_FOUND", "user_id"),
    ("GET /v1/users/u0?domain=nope", {}, 404, "DOMAIN_NOT_FOUND", None),
    ("GET /v1/schema?domain=nope", {}, 404, "DOMAIN_NOT_FOUND", None),
    ("PUT /v1/schema", {"domain": "Bad"}, 400, "FIELD_INVALID", "domain"),
    ("PUT /v1/schema", {"domain": "errors"}, 400, "SCHEMA_INCOMPATIBLE", "fields"),
    ("POST /v1/train", NOWHERE | {"force": True}, 404, "DOMAIN_NOT_FOUND", None),
    ("POST /v1/train", {"domain": "empty", "force": True}, 400, "NO_TRIPLETS", None),
    ("POST /v1/train", {"domain": "errors"}, 400, "BUDGET_NOT_REACHED", None),
    ("POST /v1/train", {"force": True}, 400, "FIELD_INVALID", "domain"),
    ("POST /v1/train", {"domain": "errors", "force": []}, 400, "REQUEST_MALFORMED", None),
    ("GET /v1/runs/tr_2020_01_01_001", {}, 404, "RUN_NOT_FOUND", None),
    ("POST /v1/runs/tr_2020_01_01_001:cancel", {}, 404, "RUN_NOT_FOUND", None),
    ("GET /v1/runs?page_size=-1", {}, 400, "FIELD_INVALID", "page_size"),
    ("POST /v1/heads:rollBack", {"domain": "errors"}, 404, "HEAD_NOT_FOUND", None),
    ("GET /v1/nowhere", {}, 404, "METHOD_NOT_FOUND", None),
    ("PATCH /v1/users/u0", {}, 404, "METHOD_NOT_FOUND", None),
    ("GET /v1/schema?domain=errors&colour=red", {}, 400, "REQUEST_MALFORMED", None),
]


@pytest.mark.parametrize(
    "refusal", REFUSALS, ids=[" ".join(map(str, (r[0], *r[2:]))) for r in REFUSALS]
)
def test_bad_input_gets_a_clear_error(mesh: Mesh, refusal: Refusal) -> None:
    call, body, status, reason, field = refusal
    method, path = call.split(" ")
    answer = read_refusal(mesh.http.request(method, path, json=None if method == "GET" else body))
    assert (answer["status"], answer["reason"]) == (status, reason)
    assert answer["metadata"].get("field") == field
    assert answer["message"]


def test_a_run_that_is_active_is_named(mesh: Mesh) -> None:
    mesh.fill("busy", 4)
    mesh.call(
        "POST",
        "/v1/feedback",
        feedback(item("u0", "u1"), item("u0", "u2", "rejected"), domain="busy"),
    )
    body = {"domain": "busy", "force": True}
    first = mesh.call("POST", "/v1/train", body)
    response = mesh.http.post("/v1/train", json=body)
    if response.status_code == 200:  # the first has ended meanwhile
        first = response.json()
        response = mesh.http.post("/v1/train", json=body)
    refusal = read_refusal(response)
    assert (refusal["status"], refusal["reason"]) == (409, "RUN_ACTIVE")
    assert refusal["metadata"]["run_id"] == first["run_id"]
    assert mesh.ended(first["run_id"])["verdict"]["result"] == "held"  # four people say too little


@pytest.mark.parametrize("path", ["/v1/train", "/v1/feedback"])
def test_a_repeated_request_gets_the_first_answer(mesh: Mesh, path: str) -> None:
    mesh.fill(f"again{path[4]}", 4)
    domain = f"again{path[4]}"
    items = (item("u0", "u1"), item("u0", "u2", "rejected"))
    mesh.call("POST", "/v1/feedback", feedback(*items, domain=domain))
    body = (
        {"domain": domain, "force": True}
        if path == "/v1/train"
        else feedback(*items, domain=domain)
    )
    headers = {"Idempotency-Key": f"key-{domain}"}
    answers = [mesh.http.post(path, json=body, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    body["domain"] = "errors"
    assert mesh.http.post(path, json=body, headers=headers).status_code == 409


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "API_KEY_MISSING"),
        ("Basic abc", "API_KEY_MISSING"),
        ("Bearer nonsense", "API_KEY_INVALID"),
        pytest.param(f"Bearer {mint_api_key()[0]}", "API_KEY_INVALID", id="unknown"),
    ],
)
def test_without_a_good_key_nothing_is_answered(
    mesh: Mesh, header: str | None, reason: str
) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path, body in (
        ("POST", "/v1/match", MATCH),
        ("POST", "/v1/train", {"domain": "errors"}),
        ("GET", "/v1/users/u0?domain=errors", None),
    ):
        response = httpx.request(method, mesh.told["rest"] + path, json=body, headers=headers)
        refusal = read_refusal(response)
        assert (refusal["status"], refusal["reason"]) == (401, reason)


async def test_grpc_answers_on_the_same_port(mesh: Mesh) -> None:
    filters = struct_pb2.Struct()
    filters.update({"age": {"gte": 23}})
    request = match_service_pb2.FindMatchesRequest(user_id="u0", domain="errors", filters=filters)
    metadata = (("authorization", f"Bearer {mesh.told['api_key']}"),)
    async with grpc.aio.insecure_channel(mesh.told["grpc"]) as channel:
        stub = match_service_pb2_grpc.MatchServiceStub(channel)
        response = await stub.FindMatches(request, metadata=metadata)
        assert {match.user_id for match in response.matches} == {"u3", "u4", "u5"}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.FindMatches(request)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert read_error_info(caught.value).reason == "API_KEY_MISSING"
        request.filters.update({"shoe": 4})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.FindMatches(request, metadata=metadata)
        assert read_error_info(caught.value).metadata["field"] == "filters.shoe"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "trine.serving.v1.MatchService",
        "trine.scheduler.v1.RunService",
        "trine.triplets.v1.OutcomeService",
    ],
)
async def test_the_health_of_the_mesh_is_told_outside(mesh: Mesh, name: str) -> None:
    async with grpc.aio.insecure_channel(mesh.told["grpc"]) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        response = await health_pb2_grpc.HealthStub(channel).Check(request)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def list_services(address: str) -> set[str]:
    """What reflection tells."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for response in stub.ServerReflectionInfo(iter([request])):
            return {service.name for service in response.list_services_response.service}
    return set()


async def test_reflection_answers_inside_and_not_outside(mesh: Mesh) -> None:
    inside = await list_services(mesh.told["services"]["scheduler"])
    assert {"trine.scheduler.v1.RunService", "trine.scheduler.v1.LeaseService"} <= inside
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await list_services(mesh.told["grpc"])
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_internal_rpcs_cannot_be_reached_from_outside(mesh: Mesh) -> None:
    token = mesh.home.read_secrets().mesh_token
    metadata = (("trine-mesh-token", token), ("authorization", f"Bearer {mesh.told['api_key']}"))
    async with grpc.aio.insecure_channel(mesh.told["grpc"]) as channel:
        access = access_service_pb2_grpc.AccessServiceStub(channel)
        lease = lease_service_pb2_grpc.LeaseServiceStub(channel)
        domains = domain_service_pb2_grpc.DomainServiceStub(channel)
        for call in (
            access.CreateApiKey(
                access_service_pb2.CreateApiKeyRequest(tenant="demo"), metadata=metadata
            ),
            lease.LeaseRun(lease_service_pb2.LeaseRunRequest(trainer="x"), metadata=metadata),
            domains.ListDomains(domain_service_pb2.ListDomainsRequest(), metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_inside_an_internal_rpc_wants_the_meshs_token(mesh: Mesh) -> None:
    async def call(metadata: tuple[tuple[str, str], ...]) -> str:
        async with grpc.aio.insecure_channel(mesh.told["services"]["triplets"]) as channel:
            stub = domain_service_pb2_grpc.DomainServiceStub(channel)
            try:
                await stub.ListDomains(domain_service_pb2.ListDomainsRequest(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

    assert (
        run_async(call((("authorization", f"Bearer {mesh.told['api_key']}"),)))
        == "PERMISSION_DENIED"
    )
    assert run_async(call((("trine-mesh-token", "guess"),))) == "PERMISSION_DENIED"
    assert run_async(call((("trine-mesh-token", mesh.home.read_secrets().mesh_token),))) == "OK"


def test_a_revoked_key_is_dead_within_five_seconds(mesh: Mesh) -> None:
    key_id, headers = mesh.new_key()

    def call() -> int:
        return mesh.http.post("/v1/match", json=MATCH, headers=headers).status_code

    assert call() == 200
    mesh.revoke(key_id)
    until(lambda: True if call() == 401 else None, seconds_max=5)
