"""Runs that are paused and stopped on a real mesh, seen through Envoy."""

import re
import zlib
from collections.abc import Iterator

import pytest

from services.chassis.artifacts import open_artifacts
from tests.support.mesh import Json, Mesh, run_async, running_mesh, until

MANY = 110
"""People whose outcomes take seconds to learn from."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh with a domain that takes time to learn from, and nothing to learn in it."""
    folder = tmp_path_factory.mktemp("pauses")
    with running_mesh(folder, TRINE_TRIPLETS_BUDGET="1000000") as running:
        running.fill("long", MANY)
        running.report("long", range(MANY), MANY, likes=by_chance)
        yield running


def by_chance(seeker: int, candidate: int) -> bool:
    """An opinion that nobody can foresee."""
    return zlib.crc32(f"{seeker} {candidate}".encode()) % 2 == 1


def start(mesh: Mesh) -> str:
    """Starts a run and waits until it has done some steps."""
    answer = mesh.call("POST", "/v1/train", {"domain": "long", "force": True})
    run_id: str = answer["run_id"]

    def under_way() -> bool | None:
        run = mesh.call("GET", f"/v1/runs/{run_id}")
        return True if run["progress"]["steps_done_count"] > 2 else None

    until(under_way)
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
    assert 2 < paused["progress"]["steps_done_count"] < paused["progress"]["steps_count"]
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
