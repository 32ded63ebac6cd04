"""A whole mesh in a folder of its own: Envoy, NATS, PostgreSQL and the five services."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
from trine.gateway.v1 import access_service_pb2 as pb
from trine.gateway.v1 import access_service_pb2_grpc

from services.mesh.home import Home
from services.mesh.launch import bring_down, bring_up

Json = dict[str, Any]

PEOPLE = 60
ENDS = {"succeeded", "stopped", "failed", "cancelled"}
SCHEMA: list[Json] = [
    {"name": "age", "kind": "hard", "type": "integer"},
    {"name": "goal", "kind": "hard", "type": "enum", "members": ["fun", "love"]},
    {"name": "city", "kind": "hard", "type": "string"},
    {"name": "about", "kind": "soft", "type": "string"},
]


class Mesh:
    """A running mesh and a REST client with its key."""

    def __init__(self, home: Home, told: Json) -> None:
        self.home = home
        self.told = told
        self.http = httpx.Client(
            base_url=told["rest"],
            headers={"Authorization": f"Bearer {told['api_key']}"},
            timeout=30,
        )

    def call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Json:
        """Calls the API and returns the answer's JSON; anything but 200 fails the test."""
        response = self.http.request(method, path, json=body, params=query or None)
        assert response.status_code == 200, response.text
        content: Json = response.json()
        return content

    def refused(self, method: str, path: str, body: Json | None = None, **query: Any) -> Json:
        """Calls the API, which must refuse: {"status", "reason", "message", "metadata"}."""
        return read_refusal(self.http.request(method, path, json=body, params=query or None))

    def match(self, user_id: str, domain: str, **content: Any) -> Json:
        """POST /v1/match."""
        return self.call("POST", "/v1/match", {"user_id": user_id, "domain": domain, **content})

    def fill(self, domain: str, people: int = PEOPLE, **schema: Any) -> None:
        """Declares a domain and brings people u0, u1 and so on in."""
        self.call("PUT", "/v1/schema", {"domain": domain, "fields": SCHEMA, **schema})
        for number in range(people):
            fields = {"age": 20 + number % 40, "goal": ("fun", "love")[number % 2]}
            user = {"user_id": f"u{number}", "domain": domain, "fields": fields}
            self.call("POST", "/v1/users", user)

    def report(
        self,
        domain: str,
        seekers: range,
        people: int = PEOPLE,
        *,
        likes: Callable[[int, int], bool] = lambda _, candidate: candidate % 2 == 1,
        day: int = 17,
    ) -> Json:
        """Each seeker says yes or no to everyone, all at one moment; by default yes to odd ones."""
        items = [
            {
                "seeker_id": f"u{seeker}",
                "candidate_id": f"u{candidate}",
                "outcome": "accepted" if likes(seeker, candidate) else "rejected",
                "occurred_at": f"2026-05-{day}T12:00:00Z",
            }
            for seeker in seekers
            for candidate in range(people)
            if candidate != seeker
        ]
        answer: Json = {}
        for start in range(0, len(items), 1_000):
            body = {"domain": domain, "items": items[start : start + 1_000]}
            answer = self.call("POST", "/v1/feedback", body)
        return answer

    def train(self, domain: str) -> Json:
        """Trains and waits for the end; returns the run."""
        run_id = self.call("POST", "/v1/train", {"domain": domain, "force": True})["run_id"]
        return self.ended(run_id)

    def ended(self, run_id: str, seconds_max: float = 60) -> Json:
        """Waits for a run's end."""

        def run() -> Json | None:
            found = self.call("GET", f"/v1/runs/{run_id}")
            return found if found["status"] in ENDS else None

        found: Json = until(run, seconds_max)
        return found

    def new_key(self) -> tuple[str, dict[str, str]]:
        """Makes another key of the tenant: its id and the headers of a call that bears it."""
        made = self._ask_for_keys("CreateApiKey", pb.CreateApiKeyRequest(tenant="demo"))
        return made.key_id, {"Authorization": f"Bearer {made.api_key}"}

    def revoke(self, key_id: str) -> None:
        """Revokes a key."""
        self._ask_for_keys("RevokeApiKey", pb.RevokeApiKeyRequest(key_id=key_id))

    def _ask_for_keys(self, method: str, request: Any) -> Any:
        metadata = (("trine-mesh-token", self.home.read_secrets().mesh_token),)

        async def ask() -> Any:
            async with grpc.aio.insecure_channel(self.told["services"]["gateway"]) as channel:
                stub = access_service_pb2_grpc.AccessServiceStub(channel)
                return await getattr(stub, method)(request, metadata=metadata)

        return run_async(ask())

    def attempt(self, method: str, path: str, body: Json | None = None) -> Json | None:
        """Calls the API and returns the answer's JSON; None if a part of the mesh is away."""
        try:
            response = self.http.request(method, path, json=body)
        except httpx.TransportError:
            return None
        if response.status_code >= 500:
            return None
        assert response.status_code == 200, response.text
        content: Json = response.json()
        return content

    def signal(self, name: str, number: signal.Signals) -> int:
        """Sends a signal to a process of the mesh and returns its id."""
        pid = until(lambda: self._now()["pids"][name] or None)
        os.kill(pid, number)
        return int(pid)

    def kill(self, name: str) -> None:
        """Kills a process of the mesh and waits until mesh.json names its successor."""
        killed = self.signal(name, signal.SIGKILL)
        until(lambda: True if self._now()["pids"][name] not in (0, killed) else None)

    def pids(self) -> dict[str, int]:
        """Its processes."""
        found: dict[str, int] = self._now()["pids"]
        return found

    def _now(self) -> Json:
        found = self.home.read_mesh()
        assert found is not None
        return found

    def close(self) -> None:
        """Closes the client and the mesh."""
        self.http.close()
        bring_down(self.home)


def read_refusal(response: httpx.Response) -> Json:
    """What a refused call answered: google.rpc.Status with one ErrorInfo, and nothing else."""
    assert response.status_code >= 400, response.text
    assert response.headers["content-type"].startswith("application/json")
    body = response.json()
    assert set(body) == {"code", "message", "details"}
    (detail,) = body["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert detail["domain"] == "trine"
    return {
        "status": response.status_code,
        "reason": detail["reason"],
        "message": body["message"],
        "metadata": detail["metadata"],
    }


def until(ask: Callable[[], Any], seconds_max: float = 30, pause: float = 0.02) -> Any:
    """Asks until the answer is not None."""
    deadline = time.monotonic() + seconds_max
    while True:
        answer = ask()
        if answer is not None:
            return answer
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(pause)


@contextmanager
def running_mesh(folder: Path, **settings: str) -> Iterator[Mesh]:
    """Runs a mesh with TRINE_ settings."""
    home = Home(folder)
    with set_environment(**settings):
        told, _ = bring_up(home)
    mesh = Mesh(home, told)
    try:
        yield mesh
    finally:
        mesh.close()


@contextmanager
def set_environment(**settings: str) -> Iterator[None]:
    """Sets variables for the length of a block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_async(coroutine: Any) -> Any:
    """Runs a coroutine in a loop of its own."""
    return asyncio.run(coroutine)
