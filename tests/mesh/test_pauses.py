"""Runs that are watched, paused and stopped on a real mesh, seen through Envoy."""

import contextlib
import json
import re
import time
import zlib
from collections.abc import Iterator

import httpx
import pytest

from services.chassis.artifacts import open_artifacts
from tests.support.mesh import Json, Mesh, run_async, running_mesh, until

MANY = 80
"""People whose outcomes take seconds to learn from."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh whose trainer asks often what to do, with a domain that takes time to learn from."""
    folder = tmp_path_factory.mktemp("pauses")
    settings = {"TRINE_TRIPLETS_BUDGET": "1000000", "TRINE_LEASE_SECONDS": "3"}
    with running_mesh(folder, **settings) as running:
        running.fill("long", MANY)
        running.report("long", range(MANY), MANY, likes=by_chance)
        yield running


def by_chance(seeker: int, candidate: int) -> bool:
    """An opinion that nobody can foresee."""
    return zlib.crc32(f"{seeker} {candidate}".encode()) % 2 == 1


def start(mesh: Mesh) -> str:
    """Starts a run and waits until a trainer has it."""
    answer = mesh.call("POST", "/v1/train", {"domain": "long", "force": True})
    run_id: str = answer["run_id"]

    until(lambda: mesh.call("GET", f"/v1/runs/{run_id}")["attempt"] or None)
    return run_id


def until_status(mesh: Mesh, run_id: str, status: str) -> Json:
    """Waits until a run is in a state, and returns it."""

    def run() -> Json | None:
        found = mesh.call("GET", f"/v1/runs/{run_id}")
        return found if found["status"] == status else None

    found: Json = until(run)
    return found


def files_of(mesh: Mesh, run: Json) -> list[str]:
    """The digests of everything in a run's head."""
    head = mesh.call("GET", f"/v1/heads/{run['head']}")
    store = open_artifacts(str(mesh.home.artifacts))
    manifest = run_async(store.get(head["manifest_digest"])).decode()
    return re.findall(r'"digest":"([0-9a-f]+)"', manifest)


def test_a_paused_run_goes_on_and_ends_with_the_same_head(mesh: Mesh) -> None:
    whole = mesh.train("long")
    run_id = start(mesh)
    assert mesh.call("POST", f"/v1/runs/{run_id}:pause", {})["status"] == "pausing"
    paused = until_status(mesh, run_id, "paused")
    assert 0 < paused["progress"]["steps_done_count"] < paused["progress"]["steps_count"]
    refusal = mesh.refused("POST", "/v1/train", {"domain": "long", "force": True})
    assert (refusal["status"], refusal["reason"]) == (409, "RUN_ACTIVE")
    assert refusal["metadata"] == {"domain": "long", "run_id": run_id, "status": "paused"}
    assert mesh.call("POST", f"/v1/runs/{run_id}:resume", {})["status"] == "queued"
    run = mesh.ended(run_id)
    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    assert run["snapshot_digest"] == whole["snapshot_digest"]
    assert run["loss_curve"] == whole["loss_curve"]
    assert files_of(mesh, run) == files_of(mesh, whole)


def test_a_stopped_run_has_a_head_and_a_verdict(mesh: Mesh) -> None:
    run_id = start(mesh)
    assert mesh.call("POST", f"/v1/runs/{run_id}:stop", {})["status"] == "stopping"
    run = mesh.ended(run_id)
    assert (run["status"], run["stop_requested"]) == ("stopped", True)
    assert run["verdict"]["result"] in {"held", "promoted"}
    assert mesh.call("GET", f"/v1/heads/{run['head']}")["run_id"] == run_id
    assert mesh.refused("POST", f"/v1/runs/{run_id}:pause", {})["reason"] == "RUN_ENDED"


def test_a_paused_run_can_be_stopped(mesh: Mesh) -> None:
    run_id = start(mesh)
    mesh.call("POST", f"/v1/runs/{run_id}:pause", {})
    until_status(mesh, run_id, "paused")
    assert mesh.call("POST", f"/v1/runs/{run_id}:stop", {})["stop_requested"]
    assert mesh.ended(run_id)["status"] == "stopped"


def test_a_run_is_watched_line_by_line_to_its_end(mesh: Mesh) -> None:
    body = {"domain": "long", "force": True}
    run_id = mesh.call("POST", "/v1/train", body)["run_id"]
    lines: list[tuple[float, Json]] = []
    with mesh.http.stream("GET", f"/v1/runs/{run_id}:watch") as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        lines += [(time.monotonic(), json.loads(line)) for line in response.iter_lines() if line]
    states = [run["status"] for _, run in lines]
    assert states[0] in {"queued", "starting"}
    assert states[-1] == "succeeded"
    assert "running" in states
    assert len(lines) > 4
    assert lines[-1][0] - lines[0][0] > 1  # they came one by one
    curves = [len(run["loss_curve"]) for _, run in lines]
    assert curves == sorted(curves)
    assert lines[-1][1] == mesh.call("GET", f"/v1/runs/{run_id}")


def test_a_watch_that_is_refused_says_why(mesh: Mesh) -> None:
    refusal = mesh.refused("GET", "/v1/runs/tr_2020_01_01_001:watch")
    assert (refusal["status"], refusal["reason"]) == (404, "RUN_NOT_FOUND")


def test_a_watcher_may_go_at_any_time(mesh: Mesh) -> None:
    run_id = start(mesh)
    for _ in range(120):  # more than a tenant may have at once
        with mesh.http.stream("GET", f"/v1/runs/{run_id}:watch") as response:
            assert response.status_code == 200
            assert json.loads(next(response.iter_lines()))["run_id"] == run_id
    mesh.call("POST", f"/v1/runs/{run_id}:cancel", {})


def test_a_watch_ends_with_its_key(mesh: Mesh) -> None:
    run_id = start(mesh)
    mesh.call("POST", f"/v1/runs/{run_id}:pause", {})
    until_status(mesh, run_id, "paused")
    key_id, headers = mesh.new_key()
    with mesh.http.stream("GET", f"/v1/runs/{run_id}:watch", headers=headers) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["status"] == "paused"
        mesh.revoke(key_id)
        revoked = time.monotonic()
        with contextlib.suppress(httpx.RemoteProtocolError):  # it breaks off: 200 has been said
            for _ in lines:
                assert time.monotonic() - revoked < 6
    assert time.monotonic() - revoked < 6
    mesh.call("POST", f"/v1/runs/{run_id}:cancel", {})
