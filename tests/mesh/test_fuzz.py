"""What nobody would send on purpose, at every door of a mesh of its own.

It is told what is wrong: nothing is answered as a fault of ours, nothing tells how the mesh is
made, no process dies of it, and good calls are answered as before.
"""

import time
from collections.abc import Iterator

import pytest

from tests.support.hostile_bodies import TAKING, Body, complaint, hostile_bodies
from tests.support.mesh import Mesh, run_async, running_mesh
from tests.support.storm import describe, storm

CALLS = 1_200
SETTINGS = {"TRINE_RATES": "*=1000000"}
"""Calls that are limited would not get to where they could do harm."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh with a domain, which is allowed to come to harm."""
    with running_mesh(tmp_path_factory.mktemp("fuzz"), **SETTINGS) as running:
        running.fill("people", 10)
        running.report("people", range(5), 10)
        yield running


@pytest.fixture(autouse=True)
def unharmed(fuzzed: Mesh) -> Iterator[None]:
    """Whatever a test does, all processes live on and a good call is answered."""
    before = fuzzed.pids()
    yield
    assert fuzzed.pids() == before
    assert fuzzed.call("GET", "/v1/schema", domain="people")["domain"] == "people"


def test_no_message_of_any_rpc_breaks_a_service(fuzzed: Mesh) -> None:
    seed = int(time.time())
    heard = run_async(storm(fuzzed, fuzzed.told["api_key"], CALLS, seed))
    assert heard.calls == CALLS
    assert heard.codes["OK"] > CALLS // 20
    assert not list(describe(heard)), f"seed {seed}"


@pytest.mark.parametrize("body", list(hostile_bodies()), ids=lambda body: body.name)
def test_no_body_breaks_a_dialect(body: Body, fuzzed: Mesh) -> None:
    complaints = {path: complaint(fuzzed, path, body) for path in TAKING}
    assert not {path: said for path, said in complaints.items() if said}
