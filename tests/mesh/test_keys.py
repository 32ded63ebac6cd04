"""API keys through the whole mesh: rotated under load, revoked everywhere, and in no log."""

import asyncio
import itertools
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

import httpx
import pytest

from services.chassis.auth import VALID_SECONDS
from services.mesh.keys import create_key, revoke_key, rotate_key
from tests.support.mesh import Mesh

CALLS = {
    "serving": ("POST", "/v1/match", {"user_id": "u", "domain": "nowhere"}),
    "scheduler": ("GET", "/v1/runs", None),
    "triplets": ("GET", "/v1/schemaTemplates", None),
    "gateway": ("GET", "/v1/models", None),
}
"""One cheap call of each service, and of the gateway's HTTP listener."""
LOAD_SECONDS = 1.0
EVENT = "fine_tuning.job.failed"


def key_id_of(text: str) -> str:
    """The public part of a key."""
    return text.removeprefix("trine_")[:12]


class Load:
    """Calls of every service, one after the other, until it is ended."""

    def __init__(self, mesh: Mesh, key: Callable[[], str]) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._mesh, self._key, self._going_on = mesh, key, True
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going_on = False
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._mesh.told["rest"], timeout=30) as client:
            for service, (method, path, body) in itertools.cycle(CALLS.items()):
                if not self._going_on:
                    return
                headers = {"Authorization": f"Bearer {self._key()}"}
                response = client.request(method, path, json=body, headers=headers)
                self.statuses[service, response.status_code] += 1


def test_a_key_is_rotated_under_load_without_a_refused_call(mesh: Mesh) -> None:
    old = asyncio.run(create_key(mesh.home, "demo", [])).api_key
    texts = [old]
    with Load(mesh, lambda: old) as slow_to_change, Load(mesh, lambda: texts[-1]) as quick:
        time.sleep(LOAD_SECONDS)
        texts.append(asyncio.run(rotate_key(mesh.home, key_id_of(old), 1.0)).api_key)
        time.sleep(2 * LOAD_SECONDS)
    for load in (slow_to_change, quick):
        assert {service for service, _ in load.statuses} == set(CALLS)
        assert {status for _, status in load.statuses} == {200, 404}


def test_a_revoked_key_is_dead_everywhere_within_five_seconds_with_nats_away(mesh: Mesh) -> None:
    text = asyncio.run(create_key(mesh.home, "demo", [])).api_key
    with httpx.Client(
        base_url=mesh.told["rest"], timeout=30, headers={"Authorization": f"Bearer {text}"}
    ) as client:

        def status(service: str) -> int:
            method, path, body = CALLS[service]
            return client.request(method, path, json=body).status_code

        assert {status(service) for service in CALLS} == {200, 404}
        mesh.signal("nats", signal.SIGSTOP)
        try:
            asyncio.run(revoke_key(mesh.home, key_id_of(text)))
            revoked = time.monotonic()
            alive = set(CALLS)
            while alive and time.monotonic() - revoked < VALID_SECONDS:
                alive = {service for service in alive if status(service) != 401}
            assert alive == set()
            assert {status(service) for service in CALLS} == {401}
        finally:
            mesh.signal("nats", signal.SIGCONT)


@pytest.mark.parametrize("kind", ["key", "webhook", "inside", "body"])
def test_no_log_tells_a_secret(mesh: Mesh, kind: str) -> None:
    marked = "marked-5Zq8"
    for method, path in (("POST", "/v1/match"), ("POST", "/v1/users"), ("POST", "/v1/embeddings")):
        body = {"user_id": marked, "domain": marked, "input": marked, "context": {"text": marked}}
        mesh.http.request(method, path, json=body)
    endpoint = {"name": marked, "url": "https://hooks.example.com/", "event_types": [EVENT]}
    made = mesh.call("POST", "/v1/webhook_endpoints", endpoint)
    known = mesh.home.read_secrets()
    secrets = {
        "key": [mesh.told["api_key"][18:-6]],
        "webhook": [made["signing_secret"]],
        "inside": [known.mesh_token, known.postgres_password, known.nats_password],
        "body": [marked],
    }[kind]
    logs = {path.name: path.read_text(errors="replace") for path in mesh.home.logs.iterdir()}
    assert {"gateway.log", "triplets.log", "envoy.log", "postgres.log", "nats.log"} <= set(logs)
    found = [(name, secret[:6]) for name in logs for secret in secrets if secret in logs[name]]
    assert found == [], json.dumps(found)
