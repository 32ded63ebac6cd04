"""The main job on a real mesh: outcomes in over REST, a better head serving."""

import re
import time

import httpx
import pytest

from services.chassis.artifacts import open_artifacts
from tests.support.mesh import Json, Mesh, run_async, until


@pytest.fixture(scope="module")
def trained(mesh: Mesh) -> Json:
    """The run of a domain in which odd people are loved, and whom u1 is shown before it."""
    mesh.fill("dating")
    mesh.report("dating", range(40))
    before = mesh.match("u50", "dating", limit=20)
    return {"before": before, "run": mesh.train("dating")}


def odd_share(answer: Json) -> float:
    """How many of the matches are odd."""
    numbers = [int(match["user_id"][1:]) for match in answer["matches"]]
    return sum(number % 2 for number in numbers) / len(numbers)


def test_before_any_training_the_encoder_ranks(trained: Json) -> None:
    before = trained["before"]
    assert before["models_used"] == {
        "embedding": {"tier": "general", "version": "all-minilm-l6-v2"}
    }
    assert before["pipeline_stats"] == {"after_sql_filter": 59, "after_embedding": 59}


def test_the_run_succeeds_and_its_head_is_promoted(trained: Json) -> None:
    run = trained["run"]
    assert run["status"] == "succeeded"
    assert run["verdict"]["result"] == "promoted", run["verdict"]["reasons"]
    assert run["verdict"]["ndcg_at_10_gain"]["low"] > 0
    assert run["loss_curve"]


def test_the_next_match_is_better_on_people_without_outcomes(mesh: Mesh, trained: Json) -> None:
    """u50 has given no outcome; whom they are shown now is what others have learned for them."""
    run = trained["run"]
    head = run["head"]

    def after() -> Json | None:
        answer = mesh.match("u50", "dating", limit=20)
        return answer if answer["models_used"].get("cross_encoder") else None

    answer = until(after)
    assert {model["version"] for model in answer["models_used"].values()} == {head}
    assert {model["tier"] for model in answer["models_used"].values()} == {"tenant"}
    assert odd_share(answer) > 0.9 > odd_share(trained["before"])
    assert [m["score"] for m in answer["matches"]] == sorted(
        (m["score"] for m in answer["matches"]), reverse=True
    )
    assert set(answer["matches"][0]["stage_scores"]) == {"light_ml", "embedding", "cross_encoder"}


def test_a_person_who_has_just_come_in_is_matched_at_once(mesh: Mesh, trained: Json) -> None:
    user = {"user_id": "newcomer", "domain": "dating", "fields": {"age": 33, "city": "Oslo"}}
    mesh.call("POST", "/v1/users", user)
    started = time.monotonic()
    until(lambda: found_in_city(mesh, "Oslo"), seconds_max=1)
    user["fields"] = {"age": 33, "city": "Bergen"}
    mesh.call("POST", "/v1/users", user)
    until(lambda: found_in_city(mesh, "Bergen"), seconds_max=1)
    assert found_in_city(mesh, "Oslo") is None
    assert time.monotonic() - started < 2


def found_in_city(mesh: Mesh, city: str) -> bool | None:
    """Whether somebody matches there."""
    answer = mesh.match("u50", "dating", filters={"city": city})
    return True if answer["matches"] else None


def test_rolling_back_is_served_at_once_and_so_is_going_forward(mesh: Mesh, trained: Json) -> None:
    head = trained["run"]["head"]
    body = {"domain": "dating"}
    answer = mesh.call("POST", "/v1/heads:rollBack", body)
    assert answer == {"domain": "dating", "head": "general", "rolled_back_head": head}
    until(lambda: None if served_head(mesh) == head else True, seconds_max=1)
    mesh.call("POST", "/v1/heads:rollBack", body | {"head": head})
    until(lambda: True if served_head(mesh) == head else None, seconds_max=1)
    (listed,) = mesh.call("GET", "/v1/heads", domain="dating")["heads"]
    assert (listed["head"], listed["promoted"], listed["parent"]) == (head, True, "general")


def served_head(mesh: Mesh) -> str:
    """The head behind the embedding stage."""
    version: str = mesh.match("u50", "dating")["models_used"]["embedding"]["version"]
    return version


def test_the_head_in_the_artifact_store_is_the_one_that_was_judged(
    mesh: Mesh, trained: Json
) -> None:
    (head,) = mesh.call("GET", "/v1/heads", domain="dating")["heads"]
    store = open_artifacts(str(mesh.home.artifacts))
    manifest = run_async(store.get(head["manifest_digest"]))
    assert head["head"].encode() in manifest
    assert trained["run"]["snapshot_digest"].encode() in manifest


def test_the_same_snapshot_gives_the_same_files(mesh: Mesh) -> None:
    mesh.fill("twice")
    mesh.report("twice", range(20))
    runs = [mesh.train("twice") for _ in range(2)]
    assert runs[0]["snapshot_digest"] == runs[1]["snapshot_digest"]
    heads = mesh.call("GET", "/v1/heads", domain="twice")["heads"]
    store = open_artifacts(str(mesh.home.artifacts))
    manifests = [run_async(store.get(head["manifest_digest"])).decode() for head in heads]
    files = [re.findall(r'"digest":"([0-9a-f]+)"', manifest) for manifest in manifests]
    assert (
        len(files[0]) == 12
    )  # four parts, golden vectors, table, two parts of each of three twins
    assert files[0] == files[1]


def test_the_seeds_example_works_as_printed(mesh: Mesh, trained: Json) -> None:
    response = httpx.post(
        f"{mesh.told['rest']}/v1/train",
        headers={
            "Authorization": f"Bearer {mesh.told['api_key']}",
            "Content-Type": "application/json",
        },
        json={"domain": "dating", "force": True},
    )
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {
        "domain",
        "status",
        "run_id",
        "triplets_used",
        "estimated_completion_minutes",
    }
    assert (answer["domain"], answer["status"]) == ("dating", "queued")
    assert re.fullmatch(r"tr_\d{4}_\d{2}_\d{2}_\d{3}", answer["run_id"])
    assert isinstance(answer["triplets_used"], int)
    assert isinstance(answer["estimated_completion_minutes"], int)
    assert mesh.ended(answer["run_id"])["status"] == "succeeded"


def matched(mesh: Mesh, user_id: str, domain: str, count: int) -> Json:
    """The matches of someone who has just come, once there are so many."""

    def ask() -> Json | None:
        body = {"user_id": user_id, "domain": domain}
        found: Json = mesh.http.post("/v1/match", json=body).json()
        return found if len(found.get("matches", [])) == count else None

    answer: Json = until(ask)
    return answer


def test_callers_may_bring_vectors(mesh: Mesh) -> None:
    mesh.call(
        "PUT",
        "/v1/schema",
        {
            "domain": "vectors",
            "fields": [],
            "embedding": {"encoder": "caller", "dim": 3},
        },
    )
    for user_id, vector in (("a", [1, 0, 0]), ("b", [0.9, 0.1, 0]), ("c", [0, 0, 1])):
        mesh.call("POST", "/v1/users", {"user_id": user_id, "domain": "vectors", "vector": vector})
    answer = matched(mesh, "a", "vectors", 2)
    assert [match["user_id"] for match in answer["matches"]] == ["b", "c"]
    assert answer["models_used"]["embedding"] == {"tier": "general", "version": "caller"}


def test_the_encoder_brings_people_together_who_say_like_things(mesh: Mesh) -> None:
    about = {
        "a": "I love climbing, hiking and everything in the mountains.",
        "b": "Weekends are for alpine tours and bouldering.",
        "c": "I collect stamps and play chess at home.",
    }
    fields = [{"name": "about", "kind": "soft", "type": "string"}]
    mesh.call("PUT", "/v1/schema", {"domain": "texts", "fields": fields})
    for user_id, text in about.items():
        user = {"user_id": user_id, "domain": "texts", "fields": {"about": text}}
        mesh.call("POST", "/v1/users", user)
    answer = matched(mesh, "a", "texts", 2)
    assert [match["user_id"] for match in answer["matches"]] == ["b", "c"]
