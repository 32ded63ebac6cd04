"""One tenant tries all that another has: it is told nothing of it and changes nothing.

The calls are made from the descriptors and from the dialects' routes, so that what comes later is
tried too. The victim's content carries a mark; no answer may hold it.
"""

import asyncio
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
from google.protobuf.message_factory import GetMessageClass

from services.chassis.clock import SystemClock
from services.gateway.facades.archetype import dialects as archetype
from services.gateway.facades.openai import dialects as openai
from services.gateway.facades.openai.webhooks import Webhooks
from services.gateway.http import Dialect, Route
from tests.support.foreign_calls import (
    FREE,
    KINDS,
    MALFORMED,
    MISSING,
    Case,
    cases,
    kinds_cases,
    methods,
    places,
    rest_call,
    scope_of,
)
from tests.support.mesh import Json, Mesh
from tests.support.victims import Victim, client_for, plant

Code = grpc.StatusCode
AT_ONCE = 8
OWN = "mine"
EMPTY_HANDED = {
    "ListHeads": "a domain without heads has none",
    "ListRollouts": "a domain without rollouts has none",
    "ListRuns": "a domain without runs has none",
    "ListSchemaTemplates": "they are everybody's",
    "GetSchemaTemplate": "they are everybody's",
    "FindMatches": "whom the stranger's domain does not know is excluded from it",
    "BatchFindMatches": "the same, and each seeker has an error of their own",
    "PutSchema": "makes a domain of the same name, the stranger's own",
    "ReportOutcomes": "a match of others is a name and no more",
    "ListUserHeads": "nobody's page begins after a run of others",
    "ImportUsers": "people of the same names in the stranger's own domain",
    "UpsertUser": "a person of the same name in the stranger's own domain",
}
"""Methods that answer what names another's things, since the answer is about the stranger's own."""

MAKERS = {"ImportUsers", "PutSchema", "UpsertUser"}
"""After them the stranger has something under another's names."""

REFUSALS = {
    Code.NOT_FOUND,
    Code.INVALID_ARGUMENT,
    Code.FAILED_PRECONDITION,
    Code.ALREADY_EXISTS,
    Code.RESOURCE_EXHAUSTED,
}


@pytest.fixture(scope="module")
def victim(mesh: Mesh) -> Iterator[Victim]:
    planted = plant(mesh)
    before = planted.digest()
    yield planted
    assert planted.digest() == before
    planted.http.close()


@pytest.fixture
def stranger(mesh: Mesh) -> Iterator[httpx.Client]:
    """A new tenant with a domain and two people of its own."""
    with client_for(mesh, f"prowler-{uuid.uuid4().hex[:8]}") as http:
        fields = [{"name": "age", "kind": "hard", "type": "integer"}]
        http.put("/v1/schema", json={"domain": OWN, "fields": fields}).raise_for_status()
        for user_id in ("me", "you"):
            user = {"user_id": user_id, "domain": OWN, "fields": {"age": 30}}
            http.post("/v1/users", json=user).raise_for_status()
        yield http


OWN_IDS = {
    "domain": OWN,
    "user": "me",
    "candidate": "you",
    "run": "tr_2026_01_01_009",
    "head": "none-of-mine",
    "rollout": "ro_none",
    "match": "m_none",
}


async def answers(
    mesh: Mesh, headers: Mapping[str, str], tried: list[Case]
) -> list[tuple[Code, str]]:
    """What each case is answered over gRPC: its code, and all that was said, headers too."""
    turns = asyncio.Semaphore(AT_ONCE)
    metadata = tuple(headers.items())

    async def ask(channel: grpc.aio.Channel, case: Case) -> tuple[Code, str]:
        async with turns:
            try:
                return Code.OK, await _call(channel, case, metadata)
            except grpc.aio.AioRpcError as error:
                said = (error.details(), error.initial_metadata(), error.trailing_metadata())
                return error.code(), repr(said)

    async with grpc.aio.insecure_channel(mesh.told["grpc"]) as channel:
        return await asyncio.gather(*(ask(channel, case) for case in tried))


async def _call(channel: grpc.aio.Channel, case: Case, metadata: Any) -> str:
    method = case.method
    kind = GetMessageClass(method.output_type)
    sides = ("stream" if s else "unary" for s in (method.client_streaming, method.server_streaming))
    form = getattr(channel, "_".join(sides))
    call = form(case.path, lambda m: m.SerializeToString(), kind.FromString)
    given = iter([case.request]) if method.client_streaming else case.request
    made = call(given, metadata=metadata, timeout=20)
    said = await made.read() if method.server_streaming else await made
    return f"{said!r} {await made.initial_metadata()!r}"


def judge(victim: Victim, case: object, sent: str, said: str) -> None:
    """Nothing of the victim's is in an answer but what was sent."""
    for secret in victim.secrets(sent):
        assert secret not in said, (str(case), secret, said)


def public() -> list[Any]:
    """All RPCs that a key may call; those that make something come last."""
    return sorted((m for m in methods() if scope_of(m)), key=lambda m: m.name in MAKERS)


def test_every_field_of_a_public_request_is_known() -> None:
    names = {way[-1].name for method in public() for way in places(method.input_type)}
    assert names - set(KINDS) - set(FREE) == set()


def test_every_rpc_keeps_another_tenants_things_to_itself(
    mesh: Mesh, victim: Victim, stranger: httpx.Client
) -> None:
    headers = {"authorization": stranger.headers["authorization"]}
    tried = [
        case
        for method in public()
        for case in (*cases(method, OWN_IDS, victim.ids), *kinds_cases(method, victim.ids))
    ]
    found = []
    for part in (False, True):
        some = [case for case in tried if (case.method.name in MAKERS) is part]
        found += asyncio.run(answers(mesh, headers, some))
    for case, (code, said) in zip(tried, found, strict=True):
        judge(victim, case, str(case.request), said)
        answered = code is Code.OK and case.method.name in EMPTY_HANDED
        allowed = {Code.NOT_FOUND} if case.what == "foreign" else REFUSALS | {Code.OK}
        assert answered or code in allowed, (str(case), code, said)
    print(f"{len(tried)} cases over gRPC")  # noqa: T201  # how much was tried


def test_the_owner_is_answered_what_a_stranger_is_not(mesh: Mesh, victim: Victim) -> None:
    """Without which nothing above says anything."""
    readers = [m for m in public() if scope_of(m).endswith(":read")]
    tried = [cases(method, OWN_IDS, victim.ids)[0] for method in readers]
    found = asyncio.run(answers(mesh, victim.headers, tried))
    refused = [
        (str(c), said) for c, (code, said) in zip(tried, found, strict=True) if code is not Code.OK
    ]
    assert refused == []


def test_every_path_keeps_another_tenants_things_to_itself(
    victim: Victim, stranger: httpx.Client
) -> None:
    count = 0
    for method in public():
        for case in cases(method, OWN_IDS, victim.ids):
            call = rest_call(case)
            if call is None or (method.server_streaming and case.what != "foreign"):
                continue
            verb, path, body = call
            response = stranger.request(verb, path, json=body)
            count += 1
            said = f"{response.headers} {response.text}"
            judge(victim, case, f"{path} {body}", said)
            answered = response.status_code == 200 and method.name in EMPTY_HANDED
            if case.what == "foreign":
                assert answered or response.status_code == 404, (str(case), said)
            assert response.status_code < 500, (str(case), said)
    print(f"{count} cases over REST")  # noqa: T201  # how much was tried


def test_no_internal_rpc_is_reached_with_a_tenants_key(
    mesh: Mesh, victim: Victim, stranger: httpx.Client
) -> None:
    headers = {"authorization": stranger.headers["authorization"]}
    internal = [method for method in methods() if not scope_of(method)]
    tried = [Case(method, "internal", GetMessageClass(method.input_type)()) for method in internal]
    for case, (code, said) in zip(tried, asyncio.run(answers(mesh, headers, tried)), strict=True):
        assert code in (Code.UNIMPLEMENTED, Code.NOT_FOUND, Code.PERMISSION_DENIED), (
            str(case),
            said,
        )
    assert len(tried) > 30


SPELLINGS = (
    "x-tenant-id",
    "X-Tenant",
    "tenant",
    "tenant-id",
    "trine-tenant",
    "x-trine-tenant",
    "x-trine-tenants",
    "trine.tenants",
    "x-forwarded-user",
    "x-organization",
    "openai-organization",
    "openai-project",
)
"""How a caller might hope to say who it is."""


@pytest.mark.parametrize(
    "path", ["/v1/runs", "/v1/files", "/v0.5/fine-tune/jobs", "/v1/users/guest0"]
)
def test_no_header_names_the_tenant(victim: Victim, stranger: httpx.Client, path: str) -> None:
    plain = stranger.get(path)
    for name in SPELLINGS:
        said = stranger.get(path, headers={name: "kept"})
        assert (said.status_code, said.text) == (plain.status_code, plain.text), name
        judge(victim, name, path, said.text)
    for name in ("trine_tenant", "x_tenant_id"):
        assert stranger.get(path, headers={name: "kept"}).status_code == 400
    assert stranger.get(path, headers={"trine-mesh-token": "guess"}).text == plain.text


def dialects() -> list[Dialect]:
    """All dialects, with nothing behind them: their routes are what is asked for."""
    nothing: Any = None
    shared = (nothing, nothing, nothing, nothing, SystemClock())
    hooks = Webhooks(nothing, nothing, SystemClock())
    return [
        *openai.dialects(
            *shared, webhooks=hooks, inference=nothing, tracker=nothing, upload_bytes_max=9
        ),
        *archetype.dialects(*shared, secret=b"none", upload_bytes_max=9),
    ]


PLACES = {
    "file_id": "file",
    "upload_id": "upload",
    "job_id": "job",
    "id": "job name",
    "model": "model",
    "permission_id": "permission",
    "endpoint_id": "endpoint",
    "event_id": "event",
    "number": "number",
}
"""Parts of paths, and of what kind they are."""


def body_of(prefix: str, path: str, ids: Mapping[str, str]) -> Json | None:
    """A body that fits the path; one that names somebody's things names those of `ids`."""
    datasets = [{"name": "any", "split": "train", "file_ids": [ids["file name"]]}]
    asked = {"model": ids["model"], "input": "any", "query": "any", "documents": ["any"]}
    config = {"model": "trine-general", "datasets": datasets}
    files: Json = {"model": "trine-general", "training_file": ids["file"]}
    if prefix == "/v0.6":
        files = {"name": "any", "model": "trine-general", "training_files": [ids["file name"]]}
    return {
        "/files": None,
        "/files/base64": {"filename": "a.jsonl", "content": ""},
        "/files/uploads/initiate": {"filename": "a", "file_type": "text/plain", "num_bytes": 9},
        "/files/uploads/{upload_id}/parts/urls": {"part_numbers": [0]},
        "/files/uploads/{upload_id}/parts/checkpoint": {"parts": []},
        "/files/uploads/{upload_id}/complete": {},
        "/files/uploads/{upload_id}/abort": {},
        "/files/uploads/{upload_id}/parts/{number}": {},
        "/uploads": {},
        "/uploads/{upload_id}/parts": None,
        "/uploads/{upload_id}/complete": {"part_ids": ["part_000000000000000000000000"]},
        "/uploads/{upload_id}/cancel": {},
        "/fine_tuning/jobs": files,
        "/fine_tuning/jobs/{job_id}/cancel": {},
        "/fine_tuning/jobs/{job_id}/pause": {},
        "/fine_tuning/jobs/{job_id}/resume": {},
        "/fine_tuning/checkpoints/{model}/permissions": {"project_ids": ["any"]},
        "/fine-tune/jobs": {"name": "any", "config": config},
        "/fine-tune/jobs/{id}/stop": {},
        "/fine-tune/jobs/{id}/cancel": {},
        "/embeddings": {name: asked[name] for name in ("model", "input")},
        "/rerank": {name: asked[name] for name in ("model", "query", "documents")},
        "/webhook_endpoints": {},
        "/webhook_endpoints/{endpoint_id}": {"name": "other"},
        "/webhook_endpoints/{endpoint_id}/rotate_secret": {},
        "/webhook_endpoints/{endpoint_id}/test": {"event_type": "fine_tuning.job.failed"},
        "/webhook_endpoints/{endpoint_id}/deliveries/{event_id}/replay": {},
    }[path]


NAMING = {"/fine_tuning/jobs", "/fine-tune/jobs", "/embeddings", "/rerank"}
"""Paths whose bodies name things."""


def test_every_route_of_the_dialects_keeps_another_tenants_things_to_itself(
    victim: Victim, stranger: httpx.Client
) -> None:
    count = 0
    for dialect in dialects():
        for route in dialect.routes:
            for what, path, status in attempts(dialect, route, victim.ids):
                body = (
                    body_of(dialect.prefix, route.path, victim.ids)
                    if route.method in ("POST", "PUT")
                    else {}
                )
                form = {"json": body} if body is not None else {"files": {"data": b"any"}}
                response = stranger.request(route.method, path, **form)
                count += 1
                said = f"{response.headers} {response.text}"
                # An id of /v0.6 is another spelling of the same one.
                sent = f"{path} {body} {path.replace('ftj_', 'ftjob-')}"
                judge(victim, f"{route.method} {path}", sent, said)
                assert response.status_code < 500, (route.method, path, said)
                if what == "foreign":
                    assert response.status_code in status, (route.method, path, said)
    print(f"{count} cases in the dialects")  # noqa: T201  # how much was tried


def attempts(
    dialect: Dialect, route: Route, ids: Mapping[str, str]
) -> Iterator[tuple[str, str, set[int]]]:
    """Paths to try, and how a foreign one is answered."""
    names = re.findall(r"\{(\w+)\}", route.path)
    kinds = {name: PLACES[name] for name in names}
    if dialect.name == "archetype" and "file_id" in kinds:
        kinds["file_id"] = "file name"
    known = {name: {**ids, "number": "0"}[kind] for name, kind in kinds.items()}
    if dialect.name == "archetype" and "job_id" in known:
        known["job_id"] = ids["job"].replace("ftjob-", "ftj_")
    whole = dialect.prefix + route.path
    # The address of a part carries its own permission, which a stranger does not have.
    signed = {403} if "number" in names else {404}
    if names or (route.path in NAMING and route.method == "POST"):
        yield "foreign", whole.format(**known), signed | ({400} if route.path in NAMING else set())
    else:
        yield "open", whole, set()
    for name in names:
        for text in (MISSING, *MALFORMED):
            yield "malformed", whole.format(**{**known, name: quote(text, safe="")}), set()
