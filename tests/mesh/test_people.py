"""People over REST: contexts appended, values with their origin, erasure, seen through Envoy."""

import time

import pytest
from safetensors.numpy import load

from services.chassis.artifacts import open_artifacts
from tests.support.mesh import Json, Mesh, run_async, until

DOMAIN = "people"
PEOPLE = 40


@pytest.fixture(scope="module", autouse=True)
def people(mesh: Mesh) -> None:
    mesh.fill(DOMAIN, PEOPLE)


def matches(mesh: Mesh, user_id: str, **content: object) -> list[str]:
    """Whom somebody is shown."""
    answer = mesh.match(user_id, DOMAIN, limit=100, **content)
    return [match["user_id"] for match in answer["matches"]]


def test_a_context_moves_a_person_towards_who_says_the_like(mesh: Mesh) -> None:
    texts = {"sailor": "I sail across the Baltic sea.", "cook": "I bake bread and cook soups."}
    for user_id, about in texts.items():
        fields = {"about": about, "city": "Kiel"}
        mesh.call("POST", "/v1/users", {"user_id": user_id, "domain": DOMAIN, "fields": fields})
    body = {"user_id": "u1", "domain": DOMAIN, "source": "chat"}
    answer = mesh.call("POST", "/v1/context", body | {"content": "Bought a boat, off to sea!"})
    assert set(answer) == {
        "user_id",
        "domain",
        "context_id",
        "fields_updated",
        "embeddings_refreshed",
    }
    assert (answer["fields_updated"], answer["embeddings_refreshed"]) == ([], True)

    def first() -> bool | None:
        found = matches(mesh, "u1", filters={"city": "Kiel"})
        return True if found == ["sailor", "cook"] else None

    until(first)


def test_a_person_is_read_with_the_origin_of_each_value(mesh: Mesh) -> None:
    user = mesh.call("GET", "/v1/users/u1", domain=DOMAIN)
    assert set(user["provenance"]) == set(user["fields"]) == {"age", "goal"}
    assert user["provenance"]["age"]["source"] == "fields"
    everywhere = mesh.call("GET", "/v1/users/u1")
    assert user in everywhere["domains"]
    assert everywhere["embeddings"][DOMAIN] == user["embeddings"][DOMAIN]


def train(mesh: Mesh) -> Json:
    """A run over all outcomes so far."""
    return mesh.train(DOMAIN)


def test_an_erased_person_is_gone_from_matches_at_once_and_from_the_next_snapshot(
    mesh: Mesh,
) -> None:
    pending = mesh.report(DOMAIN, range(20), PEOPLE)["triplets_pending_train"]
    until(lambda: True if "u7" in matches(mesh, "u30") else None)
    run = train(mesh)
    store = open_artifacts(str(mesh.home.artifacts))
    before = load(run_async(store.get(run["snapshot_digest"])))
    lineage = f"/v1/heads/{run['head']}/lineage"
    assert mesh.call("GET", lineage)["snapshot_kept"]
    erased = mesh.call("DELETE", "/v1/users/u7", domain=DOMAIN)
    started = time.monotonic()
    until(lambda: True if "u7" not in matches(mesh, "u30") else None, seconds_max=1)
    assert time.monotonic() - started < 1
    assert run["snapshot_digest"] in erased["snapshot_digests"]
    assert erased["outcomes_removed"] == (PEOPLE - 1) + 19
    heads = {each["head"]: each for each in mesh.call("GET", erased["heads"])["heads"]}
    every = mesh.call("GET", "/v1/heads", domain=DOMAIN)["heads"]
    assert sorted(heads) == sorted(each["head"] for each in every)
    head = heads[run["head"]]
    told = {"head": run["head"], "run_id": run["run_id"], "domain": DOMAIN, "tier": "tenant"}
    assert head.items() >= (told | {"erased": True}).items()
    assert head["snapshot_digest"] == run["snapshot_digest"]
    assert mesh.refused("GET", "/v1/users/nobody/heads")["reason"] == "USER_NOT_FOUND"
    refusal = mesh.refused("POST", "/v1/match", {"user_id": "u7", "domain": DOMAIN})
    assert refusal["status"] == 404
    assert mesh.refused("GET", "/v1/users/u7", domain=DOMAIN)["reason"] == "USER_NOT_FOUND"
    later = train(mesh)
    after = load(run_async(store.get(later["snapshot_digest"])))
    # Nobody needs the other one any more; that its run cannot be repeated is told.
    until(lambda: True if not mesh.call("GET", lineage)["snapshot_kept"] else None)
    assert not run_async(store.exists(run["snapshot_digest"]))
    assert len(before["triplets"]) == pending
    assert len(after["triplets"]) == later["triplets_used"] < pending
    assert len(after["user_hashes"]) == len(before["user_hashes"])
    assert before["vectors"][7].any() or before["seekers"].tolist().count(7)
    assert not after["vectors"][7].any()
    assert 7 not in {*after["seekers"].tolist(), *after["candidates"].tolist()}


def test_an_erased_id_names_a_new_person(mesh: Mesh) -> None:
    mesh.call("POST", "/v1/users", {"user_id": "u7", "domain": DOMAIN, "fields": {"age": 99}})
    until(lambda: True if "u7" in matches(mesh, "u30") else None)
    assert mesh.call("GET", "/v1/users/u7", domain=DOMAIN)["fields"] == {"age": 99}
