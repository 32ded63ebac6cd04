"""The control plane through Envoy: what is told of heads and runs, and what can be decided."""

import pytest

from tests.support.mesh import Json, Mesh, until

DOMAIN = "controlled"


@pytest.fixture(scope="module")
def runs(mesh: Mesh) -> list[Json]:
    """Two runs of a domain in which odd people are loved: the second learns from more."""
    mesh.fill(DOMAIN)
    mesh.report(DOMAIN, range(30))
    first = mesh.train(DOMAIN)
    mesh.report(DOMAIN, range(30, 40))
    return [first, mesh.train(DOMAIN)]


def test_the_gates_report_is_read_without_knowing_the_run(mesh: Mesh, runs: list[Json]) -> None:
    head = runs[0]["head"]
    assert mesh.call("GET", f"/v1/heads/{head}")["run_id"] == runs[0]["run_id"]
    report = mesh.call("GET", f"/v1/heads/{head}/verdict")
    assert report["verdict"] == runs[0]["verdict"]
    assert [rule["passed"] for rule in report["rules"]] == [True] * 4
    assert report["summary"].startswith("Promoted: it passed every rule of the gate.")
    assert mesh.refused("GET", "/v1/heads/nobody/verdict")["reason"] == "HEAD_NOT_FOUND"


def test_a_head_is_traced_to_its_outcomes_and_to_the_encoder(mesh: Mesh, runs: list[Json]) -> None:
    first, second = runs
    found = mesh.call("GET", f"/v1/heads/{second['head']}/lineage")
    assert found["head"] == mesh.call("GET", f"/v1/heads/{second['head']}")
    assert found["snapshot_digest"] == second["snapshot_digest"]
    assert found["triplets_used"] == second["triplets_used"]
    assert (found["recipe"]["seed"], found["recipe"]["device"]) == (0, "cpu")
    assert found["encoder"] == "all-minilm-l6-v2"
    heads = [second["verdict"]["incumbent"], "general"]
    assert [ancestor["head"] for ancestor in found["ancestors"]] == heads
    assert found["ancestors"][0]["snapshot_digest"] == first["snapshot_digest"]


def test_two_heads_are_compared(mesh: Mesh, runs: list[Json]) -> None:
    first, second = runs
    query = {"head": second["head"], "other": first["head"]}
    found = mesh.call("GET", "/v1/heads:compare", **query)
    differences = {d["name"]: (d["head"], d["other"]) for d in found["differences"]}
    assert set(differences) >= {"parent", "snapshot_digest", "triplets_used"}
    assert not {name for name in differences if name.startswith("recipe")}
    assert differences["triplets_used"] == (
        str(second["triplets_used"]),
        str(first["triplets_used"]),
    )
    assert not found["figures_comparable"]
    assert found["figures"][0]["name"] == "ndcg_at_10"


def test_a_pinned_head_outlives_a_run_that_would_promote(mesh: Mesh) -> None:
    mesh.fill("pinned")
    mesh.report("pinned", range(30))
    pin = mesh.call("POST", "/v1/heads:pin", {"domain": "pinned"})
    assert pin == {"domain": "pinned", "head": "general", "previous_head": "general"}
    run = mesh.train("pinned")
    assert (run["verdict"]["result"], run["verdict"]["passed"]) == ("held", True)
    listed = mesh.call("GET", "/v1/heads", domain="pinned")
    assert (listed["pinned_head"], listed["heads"][0]["promoted"]) == ("general", False)
    mesh.call("POST", "/v1/heads:pin", {"domain": "pinned", "head": run["head"]})
    used = until(lambda: mesh.match("u50", "pinned")["models_used"].get("cross_encoder"))
    assert used["version"] == run["head"]
    back = mesh.call("POST", "/v1/heads:rollBack", {"domain": "pinned"})
    assert (back["head"], back["rolled_back_head"]) == ("general", run["head"])
    assert mesh.call("POST", "/v1/heads:unpin", {"domain": "pinned"})["head"] == "general"


def test_a_dry_run_tells_what_a_run_would_meet(mesh: Mesh, runs: list[Json]) -> None:
    body = {"domain": DOMAIN, "dry_run": True}
    answer = mesh.call("POST", "/v1/train", body)
    assert (answer["status"], answer["run_id"]) == ("planned", "")
    assert answer["triplets_used"] == runs[1]["triplets_used"]
    plan = answer["plan"]
    assert [obstacle["reason"] for obstacle in plan["obstacles"]] == ["BUDGET_NOT_REACHED"]
    assert (plan["triplets_budget"], plan["budget_reached"]) == (1_000_000, False)
    assert len(plan["gate_rules"]) == 5
    assert mesh.call("POST", "/v1/train", body | {"force": True})["plan"]["would_start"]
    assert len(mesh.call("GET", "/v1/runs", domain=DOMAIN)["runs"]) == 2


def test_a_domain_with_a_policy_trains_by_it(mesh: Mesh) -> None:
    mesh.fill("regular", 10)
    mesh.report("regular", range(2), 10)
    before = mesh.call("GET", "/v1/trainingPolicy", domain="regular")
    assert before == {
        "domain": "regular",
        "triplets_budget": 1_000_000,
        "cool_down_seconds": 3_600,
        "interval_seconds": 0,
    }
    policy = {"domain": "regular", "interval_seconds": 86_400}
    answer = mesh.call("PUT", "/v1/trainingPolicy", policy)
    assert answer == before | policy
    (run,) = until(lambda: mesh.call("GET", "/v1/runs", domain="regular")["runs"] or None)
    assert run["trigger"] == "scheduled"
    assert mesh.ended(run["run_id"])["status"] == "succeeded"
    refusal = mesh.refused("PUT", "/v1/trainingPolicy", policy | {"triplets_budget": 0})
    assert (refusal["reason"], refusal["metadata"]["field"]) == ("FIELD_INVALID", "triplets_budget")
