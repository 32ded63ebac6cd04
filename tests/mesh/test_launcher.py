"""The launcher: a mesh comes up, heals, goes down, and leaves nothing behind however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.mesh import fleet
from services.mesh.child import MeshStartError
from services.mesh.home import SERVICES, Home
from services.mesh.launch import bring_down, bring_up
from services.mesh.subscribers import add_subscriber, is_welcome
from tests.support.clients import new_key
from tests.support.mesh import Json, Mesh, run_async, running_mesh, set_environment, until

INFRASTRUCTURE = ("postgres", "nats", "envoy")
PROCESSES = (*INFRASTRUCTURE, *SERVICES)
USER = {"user_id": "kept", "domain": "kept", "fields": {"age": 33, "goal": "love", "city": "Oslo"}}
FEEDBACK = {
    "domain": "kept",
    "items": [{"seeker_id": "u0", "candidate_id": "u1", "outcome": "accepted"}],
}


@dataclass(frozen=True)
class Process:
    """A process: an id alone may be given to another one later."""

    pid: int
    born: str


def running() -> dict[Process, int]:
    """Every process with the id of its parent; those that only wait to be reaped are none."""
    found: dict[Process, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *rest = file.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[Process(int(file.parent.name), rest[17])] = int(parent)
    return found


def family(pid: int) -> set[Process]:
    """A process and all that come from it."""
    parents = running()
    found = {process for process in parents if process.pid == pid}
    while True:
        pids = {process.pid for process in found}
        children = {process for process, parent in parents.items() if parent in pids}
        if children <= found:
            return found
        found |= children


def until_gone(processes: set[Process], seconds_max: float) -> None:
    """Waits for the end of all of them."""
    until(lambda: None if processes & set(running()) else True, seconds_max)


def trine(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line on a home."""
    return subprocess.run(
        [Path(sys.executable).with_name("trine"), *arguments],
        env={**os.environ, "TRINE_HOME": str(home.folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def read_status(home: Home) -> dict[str, list[str]]:
    """The table of `trine status`, which must be content: pid, restarts, healthy by process."""
    result = trine(home, "status")
    assert result.returncode == 0, result.stdout
    rows = (line.split() for line in result.stdout.splitlines()[2:])
    return {name: cells for name, *cells in rows}


def until_answered(mesh: Mesh, method: str, path: str, body: Json | None = None) -> Json:
    """Calls the API until all that the call needs is there again."""
    answer: Json = until(lambda: mesh.attempt(method, path, body))
    return answer


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh to be taken apart."""
    with running_mesh(tmp_path_factory.mktemp("launcher")) as running:
        yield running


@pytest.fixture(scope="module")
def stored(mesh: Mesh) -> Json:
    """What the mesh must never forget: answers by path."""
    mesh.fill("kept", 30)
    mesh.call("POST", "/v1/users", USER)
    mesh.report("kept", range(30), 30)
    run = mesh.train("kept")
    paths = (
        "/v1/schema?domain=kept",
        "/v1/users/kept?domain=kept",
        f"/v1/runs/{run['run_id']}",
        "/v1/heads?domain=kept",
    )
    return {path: until_answered(mesh, "GET", path) for path in paths}


def test_every_process_runs_and_is_told(mesh: Mesh) -> None:
    assert sorted(mesh.told["pids"]) == sorted(PROCESSES)
    assert set(mesh.told["restarts"].values()) == {0}
    pids = {process.pid for process in family(mesh.told["supervisor"])}
    assert set(mesh.told["pids"].values()) <= pids
    for url in mesh.told["metrics"].values():
        assert httpx.get(url).status_code == 200


def test_a_second_start_finds_the_mesh_running(mesh: Mesh) -> None:
    assert bring_up(mesh.home) == (mesh.told, True)
    result = trine(mesh.home, "up")
    assert result.returncode == 0
    assert f"is already running at {mesh.told['rest']}" in result.stdout
    assert mesh.told["api_key"] in result.stdout
    assert mesh.home.read_mesh() == mesh.told


def test_status_shows_every_process(mesh: Mesh) -> None:
    pids = {name: str(pid) for name, pid in mesh.told["pids"].items()}
    assert read_status(mesh.home) == {
        **{name: [pids[name], "0", "-"] for name in INFRASTRUCTURE},
        **{name: [pids[name], "0", "yes"] for name in SERVICES},
    }


def test_secrets_are_the_owners_alone(mesh: Mesh) -> None:
    config = mesh.home.config / "nats.conf"
    for file in (mesh.home.mesh_file, mesh.home.secrets_file, config):
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_process_is_started_again_and_nothing_is_lost(
    mesh: Mesh, stored: Json, name: str
) -> None:
    before = mesh.home.read_mesh()
    assert before is not None
    mesh.kill(name)
    after = mesh.home.read_mesh()
    assert after is not None
    assert after["restarts"][name] > before["restarts"][name]
    if name in SERVICES:
        address, health = mesh.told["services"][name], fleet.HEALTH_NAMES.get(name, "")
        until(lambda: run_async(fleet.is_serving(address, health)) or None)
    until_answered(mesh, "POST", "/v1/match", {"user_id": "u1", "domain": "kept"})
    until_answered(mesh, "POST", "/v1/feedback", FEEDBACK)
    for path, answer in stored.items():
        assert until_answered(mesh, "GET", path) == answer


def test_what_was_killed_works_again(mesh: Mesh, stored: Json) -> None:
    until(lambda: True if trine(mesh.home, "status").returncode == 0 else None)
    told = mesh.home.read_mesh()
    assert told is not None
    for name, (pid, restarts, _) in read_status(mesh.home).items():
        assert (int(pid), int(restarts)) == (told["pids"][name], told["restarts"][name])
    assert mesh.train("kept")["status"] == "succeeded"


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Another mesh on this machine."""
    with running_mesh(tmp_path_factory.mktemp("launcher") / "beside") as running:
        yield running


def test_a_mesh_beside_it_is_another(mesh: Mesh, beside: Mesh) -> None:
    for name in ("rest", "postgres", "nats", "api_key"):
        assert beside.told[name] != mesh.told[name]
    key = {"Authorization": f"Bearer {beside.told['api_key']}"}
    assert mesh.http.get("/v1/runs", headers=key).status_code == 401


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_nothing_outlives_a_killed_supervisor_and_the_next_one_goes_on(beside: Mesh) -> None:
    beside.fill("kept", 2)
    beside.call("POST", "/v1/users", USER)
    stored = beside.call("GET", "/v1/users/kept", domain="kept")
    new_key(beside, "acme")
    listening = run_async(add_subscriber(beside.home, "acme"))
    renewed = run_async(add_subscriber(beside.home, "demo"))
    assert (beside.home.read_mesh() or {})["nats"] == renewed != beside.told["nats"]
    processes = family(beside.told["supervisor"])
    os.kill(beside.told["supervisor"], signal.SIGKILL)
    until_gone(processes, seconds_max=5)
    assert trine(beside.home, "status").returncode == 1

    with ThreadPoolExecutor() as threads:  # two at once: one mesh comes of it
        first, second = threads.map(bring_up, [beside.home] * 2)
    assert first[0] == second[0]
    assert first[0]["supervisor"] != beside.told["supervisor"]
    assert first[0]["api_key"] == beside.told["api_key"]
    again = Mesh(beside.home, first[0])
    assert again.call("GET", "/v1/users/kept", domain="kept") == stored
    until(lambda: again.attempt("POST", "/v1/match", {"user_id": "kept", "domain": "kept"}))
    user, address = listening.split("@")[0], again.told["nats"].split("@")[1]
    assert again.told["nats"] == f"{renewed.split('@')[0]}@{address}"
    assert run_async(is_welcome(f"{user}@{address}")) is True
    again.http.close()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_mesh_goes_without_a_trace(mesh: Mesh, beside: Mesh) -> None:
    supervisor = beside.home.supervisor()
    assert supervisor is not None
    processes = family(supervisor)
    assert len(processes) > len(PROCESSES)
    result = trine(beside.home, "down")
    assert (result.returncode, result.stdout) == (0, "The mesh is down.\n")
    until_gone(processes, seconds_max=1)
    assert not beside.home.mesh_file.exists()
    result = trine(beside.home, "down")
    assert (result.returncode, result.stdout) == (0, "No mesh is running here.\n")
    assert bring_down(beside.home) is False
    result = trine(beside.home, "status")
    assert (result.returncode, "No mesh is running here." in result.stdout) == (1, True)
    assert mesh.attempt("GET", "/v1/runs") is not None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_mesh_that_is_still_starting_can_be_stopped(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with ThreadPoolExecutor() as threads:
        starting = threads.submit(bring_up, home)
        until(lambda: True if home.log("serving").exists() else None)
        supervisor = home.supervisor()
        assert supervisor is not None
        processes = family(supervisor)
        assert bring_down(home) is True
        until_gone(processes, seconds_max=1)
        assert isinstance(starting.exception(), MeshStartError)
    assert home.read_mesh() is None


def test_a_mesh_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    missing = str(tmp_path / "no-envoy")
    with set_environment(TRINE_ENVOY_BIN=missing), pytest.raises(MeshStartError, match=missing):
        bring_up(home)
    assert not home.is_running()
    assert home.read_mesh() is None


def test_the_guard_ends_whom_it_was_told_last() -> None:
    def sleep() -> subprocess.Popen[str]:
        return subprocess.Popen(["/bin/sleep", "60"], text=True)

    command: list[Any] = [sys.executable, "-m", "services.mesh.guard"]
    with (
        sleep() as killed,
        sleep() as interrupted,
        sleep() as forgotten,
        subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as guard,
    ):
        assert guard.stdin is not None
        guard.stdin.write(f"{forgotten.pid}:9\n")
        guard.stdin.write(f"{killed.pid}:9 {interrupted.pid}:2\n")
        guard.stdin.close()
        assert guard.wait(10) == 0
        assert (killed.wait(10), interrupted.wait(10)) == (-9, -2)
        assert forgotten.poll() is None
        forgotten.kill()
