"""What a match can be asked, over REST as callers meet it."""

from typing import Any

import pytest

from tests.support.mesh import PEOPLE, Json, Mesh, until

DOMAIN = "matching"


@pytest.fixture(scope="module")
def filled(mesh: Mesh) -> Mesh:
    """A domain of sixty people, odd ones from Bergen, whose vectors stand for nothing."""
    mesh.fill(DOMAIN)
    for number in range(1, PEOPLE, 2):
        fields = {"age": 20 + number % 40, "goal": "love", "city": "Bergen"}
        user = {"user_id": f"u{number}", "domain": DOMAIN, "fields": fields}
        mesh.call("POST", "/v1/users", user)
    until(lambda: True if len(matched(mesh, filters={"city": "Bergen"})) == 30 else None)
    return mesh


def matched(mesh: Mesh, user_id: str = "u0", **content: Any) -> list[str]:
    """Who is offered."""
    answer = mesh.match(user_id, DOMAIN, **({"limit": 100} | content))
    return [match["user_id"] for match in answer["matches"]]


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"age": {"gte": 30, "lt": 40}}, lambda n: 30 <= 20 + n % 40 < 40),
        ({"goal": ["fun"], "age": {"not_in": [20, 22]}}, lambda n: n % 2 == 0 and n % 40 > 2),
        ({"city": {"contains": "erg"}}, lambda n: n % 2 == 1),
        ({"city": {"exists": False}, "age": 24}, lambda n: n in {4, 44}),
    ],
)
def test_filters_let_through_whom_they_name(filled: Mesh, filters: Json, passes: Any) -> None:
    expected = {f"u{number}" for number in range(1, PEOPLE) if passes(number)}
    assert set(matched(filled, filters=filters)) == expected


def test_a_broken_filter_is_named(filled: Mesh) -> None:
    body = {"user_id": "u0", "domain": DOMAIN, "filters": {"age": {"above": 3}}}
    refusal = filled.refused("POST", "/v1/match", body)
    assert (refusal["status"], refusal["reason"]) == (400, "FILTER_INVALID")
    assert refusal["metadata"]["field"] == "filters.age.above"
    assert "gt, gte, lt, lte" in refusal["metadata"]["rule"]


def test_pages_through_envoy_are_one_answer_cut(filled: Mesh) -> None:
    found: list[str] = []
    content: Json = {"limit": 25}
    while True:
        answer = filled.match("u0", DOMAIN, **content)
        found += [match["user_id"] for match in answer["matches"]]
        if not answer["next_page_token"]:
            break
        content["page_token"] = answer["next_page_token"]
    assert found == matched(filled)
    refusal = filled.refused("POST", "/v1/match", {"user_id": "u1", "domain": DOMAIN} | content)
    assert (refusal["reason"], refusal["metadata"]["field"]) == ("FIELD_INVALID", "page_token")


def test_whoever_has_an_outcome_is_left_out_within_a_second(filled: Mesh) -> None:
    assert {"u7", "u8"} <= set(matched(filled, "u3"))
    assert set(matched(filled, "u3")) - set(matched(filled, "u3", exclude=["u7", "?"])) == {"u7"}
    item = {"seeker_id": "u3", "candidate_id": "u8", "outcome": "rejected"}
    filled.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": [item]})
    until(lambda: None if "u8" in matched(filled, "u3", exclude_seen=True) else True, 1)
    assert "u8" in matched(filled, "u3")
    assert "u3" in matched(filled, "u8", exclude_seen=True)


def test_a_judge_that_nobody_configured_is_named(filled: Mesh) -> None:
    body = {"user_id": "u0", "domain": DOMAIN, "stages": {"llm_judge": True}}
    refusal = filled.refused("POST", "/v1/match", body)
    assert (refusal["reason"], refusal["metadata"]["field"]) == (
        "FIELD_INVALID",
        "stages.llm_judge",
    )
    assert "not configured" in refusal["message"]


def test_explanations_add_up(filled: Mesh) -> None:
    answer = filled.match("u0", DOMAIN, limit=1, explain=True)
    (match,) = answer["matches"]
    why = match["explanation"]
    total = why["base"] + sum(c["value"] for c in why["contributions"])
    assert (why["link"], total) == ("identity", pytest.approx(match["score"]))
    assert isinstance(match["reasons"], list)
    assert "explanation" not in filled.match("u0", DOMAIN, limit=1)["matches"][0]


def test_many_seekers_are_answered_at_once(filled: Mesh) -> None:
    body = {"domain": DOMAIN, "user_ids": ["u0", "nobody", "u3"], "limit": 100}
    first, second, third = filled.call("POST", "/v1/match:batch", body)["results"]
    assert [m["user_id"] for m in first["answer"]["matches"]] == matched(filled)
    assert [m["user_id"] for m in third["answer"]["matches"]] == matched(filled, "u3")
    assert (second["user_id"], second["error"]["reason"]) == ("nobody", "USER_NOT_FOUND")
    assert "answer" not in second
    refusal = filled.refused("POST", "/v1/match:batch", body | {"user_ids": []})
    assert (refusal["reason"], refusal["metadata"]["field"]) == ("FIELD_INVALID", "user_ids")


def test_a_match_can_be_read_back(filled: Mesh) -> None:
    answer = filled.match("u5", DOMAIN, limit=3)

    def recorded() -> Json | None:
        response = filled.http.get(f"/v1/matches/{answer['match_id']}")
        found: Json = response.json()
        return found if response.status_code == 200 else None

    found = until(recorded)
    assert (found["user_id"], found["domain"]) == ("u5", DOMAIN)
    assert (found["head"], found["tier"], found["run_id"]) == ("all-minilm-l6-v2", "general", "")
    shown = [(s["user_id"], s["rank"], s["score"]) for s in found["shown"]]
    ranked = enumerate(answer["matches"], start=1)
    assert shown == [(m["user_id"], rank, m["score"]) for rank, m in ranked]
    refusal = filled.refused("GET", "/v1/matches/unknown")
    assert (refusal["status"], refusal["reason"]) == (404, "MATCH_NOT_FOUND")
    item = {"seeker_id": "u5", "candidate_id": shown[0][0], "outcome": "accepted"}
    item["match_id"] = answer["match_id"]
    filled.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": [item]})


def test_a_reciprocal_domain_counts_both_ways(mesh: Mesh) -> None:
    mesh.fill("mutual")
    mesh.report("mutual", range(40))
    assert mesh.train("mutual")["verdict"]["result"] == "promoted"
    schema = mesh.call("GET", "/v1/schema", domain="mutual")
    assert schema["reciprocal"] is False
    changed = mesh.call("PUT", "/v1/schema", schema | {"reciprocal": True})
    assert (changed["reciprocal"], changed["version"]) == (True, "mutual.v2")

    def both() -> Json | None:
        answer = mesh.match("u1", "mutual", limit=5, explain=True)
        found = answer["matches"][0]["stage_scores"]
        return answer if "cross_encoder_back" in found else None

    for match in until(both)["matches"]:
        scores = match["stage_scores"]
        product = scores["cross_encoder_forward"] * scores["cross_encoder_back"]
        assert match["score"] == pytest.approx(product)
        assert match["explanation_back"]["score"] == scores["cross_encoder_back"]


def test_places_and_lists_are_filtered_by(mesh: Mesh) -> None:
    fields = [
        {"name": "location", "kind": "hard", "type": "geo"},
        {"name": "likes", "kind": "hard", "type": "list"},
    ]
    mesh.call("PUT", "/v1/schema", {"domain": "places", "fields": fields})
    people: dict[str, Json] = {
        "basel": {"location": {"lat": 47.56, "lon": 7.59}, "likes": ["art", "tea"]},
        "zurich": {"location": {"lat": 47.38, "lon": 8.54}, "likes": ["tea"]},
        "paris": {"location": {"lat": 48.86, "lon": 2.35}, "likes": ["art"]},
        "nowhere": {"likes": ["golf"]},
    }
    for user_id, values in people.items():
        user = {"user_id": user_id, "domain": "places", "fields": values}
        mesh.call("POST", "/v1/users", user)

    def found(user_id: str, **filters: Any) -> set[str]:
        body = {"user_id": user_id, "domain": "places", "filters": filters}
        answer: Json = mesh.http.post("/v1/match", json=body).json()
        return {match["user_id"] for match in answer.get("matches", [])}

    until(lambda: True if len(found("nowhere")) == 3 else None)
    assert found("basel", location_within_km=100) == {"zurich"}
    assert found("zurich", location={"within_km": 600}) == {"basel", "paris"}
    london = {"within_km": 400, "of": {"lat": 51.51, "lon": -0.13}}
    assert found("nowhere", location=london) == {"paris"}
    assert found("nowhere", likes={"all": ["art", "tea"]}) == {"basel"}
    assert found("basel", likes=["art"], location_within_km=5) == set()
    body = {"user_id": "nowhere", "domain": "places", "filters": {"location_within_km": 5}}
    refusal = mesh.refused("POST", "/v1/match", body)
    assert refusal["metadata"]["field"] == "filters.location_within_km"
    assert "own place" in refusal["metadata"]["rule"]
