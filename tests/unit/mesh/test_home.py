"""A mesh's home: held by one supervisor, told by whole files that are their owner's alone."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.mesh.home import PORTS, TENANT, Home, Secrets, choose_ports


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def mode(path: Path) -> int:
    """Who may read and write a file."""
    return path.stat().st_mode & 0o777


def test_the_environment_names_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRINE_HOME", raising=False)
    assert Home.from_environment().folder == tmp_path / ".trine"
    monkeypatch.setenv("TRINE_HOME", "elsewhere")
    assert Home.from_environment().folder == tmp_path / "elsewhere"


def test_a_home_is_held_by_one(home: Home) -> None:
    assert not home.is_running()
    held = home.try_lock()
    assert held is not None
    with held:
        assert home.is_running()
        assert home.try_lock() is None
        assert Home(home.folder).try_lock() is None
    assert not home.is_running()


def test_the_holder_is_known_by_its_process(home: Home) -> None:
    assert home.supervisor() is None
    held = home.try_lock()
    assert held is not None
    with held:
        assert home.supervisor() is None  # it holds, but has not yet said who it is
        for _ in range(2):
            home.name_supervisor(held)
            assert home.supervisor() == os.getpid()
    assert home.supervisor() is None  # what stands in the file is of one who is gone
    assert home.lock.read_text() == str(os.getpid())


def test_what_a_mesh_tells_is_read_as_it_was_written(home: Home) -> None:
    home.folder.mkdir()
    assert home.read_mesh() is None
    for port in (1, 2):
        home.write_mesh({"rest": f"http://127.0.0.1:{port}", "pids": {"envoy": port}})
        assert home.read_mesh() == {"rest": f"http://127.0.0.1:{port}", "pids": {"envoy": port}}
    assert [path.name for path in home.folder.iterdir()] == ["mesh.json"]


def test_what_holds_a_key_is_its_owners_alone(home: Home) -> None:
    home.folder.mkdir()
    unfinished = home.mesh_file.with_suffix(".part")  # of a writer that was killed
    unfinished.write_text("{")
    unfinished.chmod(0o666)
    home.mesh_file.write_text("{}")
    home.mesh_file.chmod(0o644)
    home.write_mesh({"api_key": "k"})
    home.read_secrets()
    assert mode(home.mesh_file) == mode(home.secrets_file) == 0o600
    assert not unfinished.exists()


def test_a_reader_never_meets_half_of_a_file(home: Home) -> None:
    home.folder.mkdir()
    home.write_mesh({"first": True})
    with home.mesh_file.open() as reader:
        home.write_mesh({"second": True})
        assert json.load(reader) == {"first": True}
    assert home.read_mesh() == {"second": True}


def test_secrets_are_made_up_once_and_kept(home: Home) -> None:
    home.folder.mkdir()
    first = home.read_secrets()
    assert Home(home.folder).read_secrets() == first
    assert first.api_key == ""
    kept = {**vars(first), **first.nats_subscribers}
    made_up = [kept[name] for name in kept if name not in ("api_key", "nats_subscribers")]
    assert len(set(made_up)) == len(made_up)
    assert min(map(len, made_up)) >= 32
    assert Secrets() != first
    home.write_secrets(Secrets(**{**vars(first), "api_key": "k"}))
    assert home.read_secrets().api_key == "k"
    assert home.read_secrets().mesh_token == first.mesh_token


def test_a_home_of_before_keeps_the_password_of_its_tenant(home: Home) -> None:
    home.folder.mkdir()
    kept = vars(home.read_secrets()) | {"nats_tenant_password": "as it was"}
    del kept["nats_subscribers"]
    home.secrets_file.write_text(json.dumps(kept))
    known = home.read_secrets()
    assert known.nats_subscribers == {TENANT: "as it was"}
    assert known.mesh_token == kept["mesh_token"]
    home.write_secrets(known)
    assert home.read_secrets() == known


def test_changes_of_secrets_wait_for_each_other(home: Home) -> None:
    home.folder.mkdir()

    def add(number: int) -> None:
        with Home(home.folder).changing_secrets() as known:
            users = {**known.nats_subscribers, f"t{number}": "p"}
            home.write_secrets(dataclasses.replace(known, nats_subscribers=users))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(50)))
    assert set(home.read_secrets().nats_subscribers) == {TENANT, *(f"t{n}" for n in range(50))}


def test_ports_are_free_and_no_two_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRINE_PORT_BASE", raising=False)
    ports = choose_ports()
    assert set(ports) == set(PORTS)
    assert len(set(ports.values())) == len(PORTS)


def test_ports_follow_each_other_from_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRINE_PORT_BASE", "8080")
    ports = choose_ports()
    assert ports["envoy"] == 8080
    assert sorted(ports.values()) == list(range(8080, 8080 + len(PORTS)))
