"""`trine verify`: every service says whether what must always hold does hold."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from services.chassis.api_key import PREFIX
from services.mesh.__main__ import app
from services.mesh.verify import ASKED, verify_mesh
from tests.support.mesh import Mesh, run_async, set_environment


def verify(mesh: Mesh, *options: str) -> Result:
    """Runs the command."""
    with set_environment(TRINE_HOME=str(mesh.home.folder)):
        return CliRunner().invoke(app, ["verify", *options])


@contextmanager
def planted(mesh: Mesh, there: str, back: str) -> Iterator[None]:
    """Changes what a service holds behind its back, and changes it back."""

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(mesh.told["postgres"])
        try:
            assert await connection.execute(statement) == "UPDATE 1"
        finally:
            await connection.close()

    asyncio.run(execute(there))
    try:
        yield
    finally:
        asyncio.run(execute(back))


@pytest.fixture(scope="module")
def lived(mesh: Mesh) -> Mesh:
    """A mesh that has learned a head and lost a person."""
    mesh.fill("verified")
    mesh.report("verified", range(30))
    assert mesh.train("verified")["verdict"]["result"] == "promoted"
    mesh.match("u1", "verified")
    mesh.call("DELETE", "/v1/users/u2", domain="verified")
    return mesh


def test_everything_holds_in_a_mesh_that_has_lived(lived: Mesh) -> None:
    checked = run_async(verify_mesh(lived.home))
    assert {one.service for one in checked} == set(ASKED)
    assert [one for one in checked if one.result != "ok"] == []
    result = verify(lived)
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == len(checked)


def test_a_violation_is_named_and_the_command_fails(lived: Mesh) -> None:
    change = "update triplets.domains set triplets_count = triplets_count {} "
    change += "where domain = 'verified'"
    with planted(lived, change.format("+ 1"), change.format("- 1")):
        result = verify(lived, "-o", "json")
    assert result.exit_code == 1
    (broken,) = [one for one in json.loads(result.output) if one["result"] != "ok"]
    assert (broken["invariant"], broken["service"]) == ("I3", "triplets")
    assert broken["offenders"] == ["demo/verified"]
    assert verify(lived).exit_code == 0


def test_a_head_that_ranks_without_having_passed_is_named(lived: Mesh) -> None:
    change = "update scheduler.heads set verdict = {} where domain = 'verified'"
    failed = change.format("jsonb_build_object('promoted', false, 'was', verdict)")
    with planted(lived, failed, change.format("verdict -> 'was'")):
        broken = [one for one in run_async(verify_mesh(lived.home)) if one.result != "ok"]
    named = {(one.invariant, one.service) for one in broken}
    assert named == {("I9", "scheduler"), ("I9", "serving")}


def test_whoever_asked_for_a_run_stands_beside_its_first_move(lived: Mesh) -> None:
    async def moves() -> list[tuple[str, str]]:
        connection = await asyncpg.connect(lived.told["postgres"])
        try:
            rows = await connection.fetch(
                "select author, request_id from scheduler.transitions "
                "join scheduler.runs using (tenant, run_id) "
                "where domain = 'verified' order by number"
            )
        finally:
            await connection.close()
        return [tuple(row) for row in rows]

    (author, request_id), *others = run_async(moves())
    assert author == f"key {lived.told['api_key'].removeprefix(PREFIX)[:12]}"
    assert len(request_id) == 36  # Envoy's
    assert set(others) == {("mesh", "")}
