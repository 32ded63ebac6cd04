"""A person described in words alone is found by filters on typed fields, through Envoy."""

from tests.support.mesh import Json, Mesh, until

DOMAIN = "reading"
FIELDS: list[Json] = [
    {"name": "age", "kind": "hard", "type": "integer"},
    {"name": "place", "kind": "hard", "type": "geo"},
    {
        "name": "goal",
        "kind": "hard",
        "type": "enum",
        "members": ["long_term", "casual"],
        "member_descriptions": {
            "long_term": "a serious, lasting relationship or marriage",
            "casual": "a fling, dates without commitment",
        },
    },
]
ABOUT = "I'm 34 and I live in New York, NY. Looking for a serious relationship."


def test_words_become_fields_that_filters_find(mesh: Mesh) -> None:
    mesh.call("PUT", "/v1/schema", {"domain": DOMAIN, "fields": FIELDS})
    for user_id, context in (("ann", ABOUT), ("bob", "I sail."), ("eve", "I bake bread.")):
        body = {"user_id": user_id, "domain": DOMAIN, "context": context}
        mesh.call("POST", "/v1/users", body)
    user = mesh.call("GET", "/v1/users/ann", domain=DOMAIN)
    assert (user["fields"]["age"], user["fields"]["goal"]) == (34, "long_term")
    assert {name: one["source"] for name, one in user["provenance"].items()} == dict.fromkeys(
        ("age", "goal", "place"), "extraction"
    )
    assert user["provenance"]["goal"]["evidence"] == "Looking for a serious relationship."
    assert 0.5 < user["provenance"]["goal"]["confidence"] < 1
    until(lambda: True if matched(mesh, {"age": {"gte": 30}}) == ["ann"] else None)
    assert matched(mesh, {"goal": "long_term"}) == ["ann"]
    near = {"within_km": 20, "of": {"lat": 40.7, "lon": -74.0}}
    assert matched(mesh, {"place": near}) == ["ann"]
    answer = mesh.call(
        "POST", "/v1/context", {"user_id": "bob", "domain": DOMAIN, "content": "I'm 41."}
    )
    assert answer["fields_updated"] == ["age"]
    until(lambda: True if matched(mesh, {"age": 41}, "eve") == ["bob"] else None)


def matched(mesh: Mesh, filters: Json, seeker: str = "bob") -> list[str]:
    """Who passes."""
    answer = mesh.match(seeker, DOMAIN, filters=filters)
    return [match["user_id"] for match in answer["matches"]]
