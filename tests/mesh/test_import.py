"""`trine import`: files of people and outcomes into a mesh, through Envoy."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.mesh import Mesh, until

DOMAIN = "bulk"
PEOPLE = 3_000
DIM = 512
"""So that the file's vectors are more than one message, or Envoy, would hold."""


def run_import(mesh: Mesh, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Calls the command line."""
    url, key = mesh.told["rest"], mesh.told["api_key"]
    command = [str(Path(sys.executable).parent / "trine"), "import", *arguments]
    options = ["--domain", DOMAIN, "--url", url, "--key", key]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def domain(mesh: Mesh) -> None:
    fields = [
        {"name": "age", "kind": "hard", "type": "integer"},
        {"name": "smokes", "kind": "hard", "type": "boolean"},
    ]
    embedding = {"encoder": "caller", "dim": DIM}
    mesh.call("PUT", "/v1/schema", {"domain": DOMAIN, "fields": fields, "embedding": embedding})


def test_people_come_in_from_json_lines(mesh: Mesh, tmp_path: Path) -> None:
    vectors = np.random.default_rng(3).normal(size=(PEOPLE, DIM)).round(3).tolist()
    lines = [
        json.dumps({"user_id": f"u{number}", "fields": {"age": 20}, "vector": vector})
        for number, vector in enumerate(vectors)
    ]
    lines[10] = json.dumps({"user_id": "u10", "age": 20, "vector": [1, 2]})
    lines[20] = json.dumps({"user_id": "u20", "age": "old"})
    file = tmp_path / "people.jsonl"
    file.write_text("\n".join(lines))
    result = run_import(mesh, "users", str(file))
    assert result.returncode == 1, result.stderr
    assert f"{PEOPLE - 2:,} of {PEOPLE:,} rows taken" in result.stdout
    text = (tmp_path / "people.jsonl.rejected.jsonl").read_text()
    rejected = [json.loads(line) for line in text.splitlines()]
    assert [(one["line"], one["error"].partition(":")[0]) for one in rejected] == [
        (11, "vector"),
        (21, "fields.age"),
    ]
    body = {"user_id": "u1", "domain": DOMAIN, "limit": 1}
    until(lambda: mesh.http.post("/v1/match", json=body).status_code == httpx.codes.OK or None)
    assert mesh.call("GET", "/v1/users/u2999", domain=DOMAIN)["embeddings"][DOMAIN]["dim"] == DIM


def test_people_and_outcomes_come_in_from_csv(mesh: Mesh, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("user_id,age,smokes\nada,31,true\nbob,32,no\ncleo,33,\n")
    assert "3 of 3 rows taken" in run_import(mesh, "users", str(people)).stdout
    fields = mesh.call("GET", "/v1/users/bob", domain=DOMAIN)["fields"]
    assert fields == {"age": 32, "smokes": False}
    outcomes = tmp_path / "outcomes.csv"
    outcomes.write_text(
        "seeker_id,candidate_id,outcome,weight,occurred_at\n"
        "ada,bob,accepted,2,2026-05-17T12:00:00Z\n"
        "ada,cleo,rejected,,\n"
        "ada,nobody,rejected,,\n"
        "ada,bob,accepted,1,yesterday\n"
    )
    result = run_import(mesh, "outcomes", str(outcomes))
    assert "2 of 4 rows taken" in result.stdout, result.stdout + result.stderr
    text = (tmp_path / "outcomes.csv.rejected.jsonl").read_text()
    assert [json.loads(line)["line"] for line in text.splitlines()] == [4, 5]


def test_an_import_that_cannot_be_says_why(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("user_id,shoe\nada,31\n")
    result = run_import(mesh, "users", str(file))
    assert result.returncode == 1
    assert "shoe" in result.stdout
