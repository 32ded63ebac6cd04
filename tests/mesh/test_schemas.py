"""Schemas over REST: templates put as they are, dry runs, lists and places, through Envoy."""

from tests.support.mesh import Mesh, until


def test_a_template_is_put_as_it_is_and_people_with_lists_and_places_are_matched(
    mesh: Mesh,
) -> None:
    listed = mesh.call("GET", "/v1/schemaTemplates")["schema_templates"]
    assert len(listed) == 6
    template = mesh.call("GET", "/v1/schemaTemplates/hiring")
    assert template in listed
    wanted = template["schema"] | {"domain": "jobs"}
    told = mesh.call("PUT", "/v1/schema", wanted, validate_only="true")["change"]
    assert (told["created"], told["applied"]) == (True, False)
    assert mesh.refused("GET", "/v1/schema", domain="jobs")["reason"] == "DOMAIN_NOT_FOUND"
    made = mesh.call("PUT", "/v1/schema", wanted)
    assert made["change"] == told | {"applied": True}
    assert made["version"] == "jobs.v1"
    values = {"skills": ["sql", "python"], "place": {"lat": 52.52, "lon": 13.4}, "role": "cook"}
    for user_id in ("a", "b"):
        user = {"user_id": user_id, "domain": "jobs", "fields": values}
        assert mesh.call("POST", "/v1/users", user)["fields"] == values
    body = {"user_id": "a", "domain": "jobs", "filters": {"role": "cook"}}

    def matched() -> bool | None:
        found = mesh.http.post("/v1/match", json=body).json().get("matches", [])
        return True if [match["user_id"] for match in found] == ["b"] else None

    until(matched)


def test_a_dry_run_refuses_what_the_change_itself_would(mesh: Mesh) -> None:
    age = {"name": "age", "kind": "hard", "type": "integer"}
    mesh.call("PUT", "/v1/schema", {"domain": "dry", "fields": [age]})
    changed = {"domain": "dry", "fields": [age | {"type": "number"}]}
    told = mesh.refused("PUT", "/v1/schema", changed, validate_only="true")
    assert told == mesh.refused("PUT", "/v1/schema", changed)
    assert told["reason"] == "SCHEMA_INCOMPATIBLE"
