"""Exploration on a real mesh: pages shuffled, logged, tied to outcomes, and weighed by the gate."""

import collections

import httpx
import pytest

from tests.support.mesh import PEOPLE, Json, Mesh, until

DOMAIN = "explored"
SHARE = 0.75
SLOTS = 4
ROUNDS = 3


@pytest.fixture(scope="module")
def records(mesh: Mesh) -> list[Json]:
    """Records of everyone's matches in a domain that explores; odd people were accepted."""
    mesh.fill(DOMAIN)
    mesh.report(DOMAIN, range(30))
    policy = {"domain": DOMAIN, "exploration": SHARE}
    assert mesh.call("PUT", "/v1/matchingPolicy", policy) == policy
    until(lambda: True if record(mesh, match(mesh)[0])["exploration"] else None)
    matches = [found for _ in range(ROUNDS) for found in match(mesh)]
    items = [
        {
            "seeker_id": f"u{number % PEOPLE}",
            "candidate_id": shown["user_id"],
            "outcome": "accepted" if int(shown["user_id"][1:]) % 2 else "rejected",
            "match_id": found["match_id"],
        }
        for number, found in enumerate(matches)
        for shown in found["matches"]
    ]
    mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": items})
    return [record(mesh, found) for found in matches]


def match(mesh: Mesh) -> list[Json]:
    """Everyone's matches."""
    user_ids = [f"u{number}" for number in range(PEOPLE)]
    body = {"domain": DOMAIN, "user_ids": user_ids, "limit": SLOTS}
    return [one["answer"] for one in mesh.call("POST", "/v1/match:batch", body)["results"]]


def record(mesh: Mesh, found: Json) -> Json:
    """A match's record, once it is there."""

    def ask() -> Json | None:
        response = mesh.http.get(f"/v1/matches/{found['match_id']}")
        return response.json() if response.status_code == httpx.codes.OK else None

    answer: Json = until(ask)
    return answer


def test_what_is_shown_is_logged_with_its_propensities(records: list[Json]) -> None:
    assert {found["exploration"] for found in records} == {SHARE}
    for found in records:
        shown = found["shown"]
        assert [slot["rank"] for slot in shown] == [1, 2, 3, 4]
        assert sorted(slot["ranker_rank"] for slot in shown) == [1, 2, 3, 4]
        for slot in shown:
            kept = slot["rank"] == slot["ranker_rank"]
            assert slot["propensity"] == pytest.approx((1 - SHARE) * kept + SHARE / SLOTS)
        moved = any(slot["rank"] != slot["ranker_rank"] for slot in shown)
        assert found["explored"] or not moved
    explored = sum(found["explored"] for found in records)
    assert 0.55 < explored / len(records) < 0.95


def test_the_people_shown_are_the_same_either_way(records: list[Json]) -> None:
    """The ranker stands still meanwhile: a seeker's pages differ in their order alone."""
    by_seeker = collections.defaultdict(set)
    orders = set()
    for found in records:
        ranked = sorted(found["shown"], key=lambda slot: int(slot["ranker_rank"]))
        by_seeker[found["user_id"]].add(tuple(slot["user_id"] for slot in ranked))
        orders.add(tuple(slot["ranker_rank"] for slot in found["shown"]))
    assert len(by_seeker) == PEOPLE
    assert all(len(pages) == 1 for pages in by_seeker.values())
    assert len(orders) > 15  # of 24


def test_the_gate_weighs_both_heads_by_it(mesh: Mesh, records: list[Json]) -> None:
    run = mesh.train(DOMAIN)
    found = run["verdict"]["counterfactual"]
    shown = [slot for each in records for slot in each["shown"]]
    assert found["matches_count"] >= len(records)
    assert found["explored_count"] >= sum(each["explored"] for each in records) >= 100
    assert found["positives_count"] == sum(int(slot["user_id"][1:]) % 2 for slot in shown)
    for values in (found["challenger"], found["incumbent"], found["difference"]):
        for interval in values.values():
            assert interval["low"] <= interval["mid"] <= interval["high"]
    # Odd people are loved, and the new head knows it: its order cannot be worth less for certain.
    assert found["difference"]["dr"]["high"] > 0
    report = mesh.call("GET", f"/v1/heads/{run['head']}/verdict")
    rules = {rule["rule"]: rule for rule in report["rules"]}
    assert rules["counterfactual"]["passed"]
    assert "in a random order" in report["summary"]
