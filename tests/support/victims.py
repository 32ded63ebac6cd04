"""A tenant with one of everything, whose content carries a mark that nobody else may ever read."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.clients import new_key
from tests.support.mesh import ENDS, PEOPLE, Json, Mesh, until

MARK = "zqmarkqz"
"""Stands in the victim's texts, values, names of fields, labels and files, contents, addresses."""

DOMAIN = "parlour"
SCHEMA = {
    "domain": DOMAIN,
    "fields": [
        {"name": "age", "kind": "hard", "type": "integer"},
        {"name": MARK, "kind": "hard", "type": "enum", "members": [f"{MARK}_a", f"{MARK}_b"]},
        {"name": "about", "kind": "soft", "type": "string"},
    ],
}
LINES = b"".join(
    json.dumps({"anchor": f"{MARK} {n}", "positive": f"yes {n}", "negative": f"no {n}"}).encode()
    + b"\n"
    for n in range(20)
)
SHADOW = {"domain": DOMAIN, "shadow": {"share": 1, "matches_min": 1_000_000}}
DIGESTED = (
    f"/v1/schema?domain={DOMAIN}",
    f"/v1/labels?domain={DOMAIN}",
    f"/v1/sharing?domain={DOMAIN}",
    f"/v1/matchingPolicy?domain={DOMAIN}",
    f"/v1/trainingPolicy?domain={DOMAIN}",
    f"/v1/rolloutPolicy?domain={DOMAIN}",
    f"/v1/runs?domain={DOMAIN}",
    f"/v1/heads?domain={DOMAIN}",
    "/v1/heads/{head}",
    "/v1/heads/{head}/verdict",
    "/v1/heads/{head}/lineage",
    "/v1/users/{user}",
    "/v1/users/{user}/heads",
    "/v1/matches/{match}",
    "/v1/files",
    "/v1/files/{file}/content",
    "/v1/models",
    "/v1/fine_tuning/jobs",
    "/v1/fine_tuning/jobs/{job}/events",
    "/v1/fine_tuning/checkpoints/{model}/permissions",
    "/v1/webhook_endpoints",
    "/v0.5/fine-tune/jobs",
    "/api/files/metadata",
)
"""What is told of the victim to itself, and what nobody else may change."""


@dataclass(frozen=True)
class Victim:
    """A tenant, its key, and the ids of what it has, by kind."""

    http: httpx.Client
    headers: Json
    ids: dict[str, str]

    def secrets(self, sent: str) -> list[str]:
        """What answers to others may not hold: the mark, and ids that they have not sent."""
        # Numbers of runs and names made of them are counted per tenant: others have them too.
        hidden = [value for kind, value in self.ids.items() if kind in HIDDEN]
        return [MARK, *(value for value in hidden if value not in sent)]

    def digest(self) -> Json:
        """All that the victim is told of itself."""
        found = {}
        for path in DIGESTED:
            response = self.http.get(path.format(**self.ids))
            assert response.status_code == 200, (path, response.text)
            found[path] = response.text
        rollout = self.http.get(f"/v1/rollouts/{self.ids['rollout']}").json()
        return found | {"rollout": rollout["status"]}


HIDDEN = ("match", "file", "upload", "job", "permission", "endpoint", "rollout")


def client_for(mesh: Mesh, tenant: str) -> httpx.Client:
    """A REST client with a key of a tenant that may do everything."""
    headers = {"authorization": f"Bearer {new_key(mesh, tenant)}"}
    return httpx.Client(base_url=mesh.told["rest"], headers=headers, timeout=30)


def plant(mesh: Mesh, tenant: str = "kept") -> Victim:
    """Makes one of everything."""
    http = client_for(mesh, tenant)

    def call(method: str, path: str, **content: Any) -> Json:
        response = http.request(method, path, **content)
        assert response.status_code == 200, (path, response.text)
        made: Json = response.json()
        return made

    job, ids = _plant_files(call)
    ids |= _plant_domain(call)
    ended = until(lambda: _ended(call("GET", f"/v1/fine_tuning/jobs/{job}")), 200, pause=0.2)
    ids["model"] = ended["fine_tuned_model"]
    body = {"project_ids": [MARK]}
    made = call("POST", f"/v1/fine_tuning/checkpoints/{ids['model']}/permissions", json=body)
    ids["permission"] = made["data"][0]["id"]
    until(lambda: http.get(f"/v1/matches/{ids['match']}").status_code == 200 or None)
    return Victim(http, {"authorization": http.headers["authorization"]}, ids)


def _ended(job: Json) -> Json | None:
    return job if job["status"] in ("succeeded", "failed", "cancelled") else None


def _plant_files(call: Any) -> tuple[str, dict[str, str]]:
    """Files, an upload, jobs of both dialects and an endpoint."""
    sent = {"file": (f"{MARK}.jsonl", LINES), "purpose": (None, "fine-tune")}
    file = call("POST", "/v1/files", files=sent)["id"]
    upload = {"filename": MARK, "bytes": 9, "mime_type": "text/jsonl", "purpose": "fine-tune"}
    upload_id = call("POST", "/v1/uploads", json=upload)["id"]
    job = call(
        "POST", "/v1/fine_tuning/jobs", json={"model": "trine-general", "training_file": file}
    )
    hook = {"name": MARK, "url": f"https://hooks.example.com/{MARK}", "event_types": []}
    hook["event_types"] = ["fine_tuning.job.failed"]
    endpoint = call("POST", "/v1/webhook_endpoints", json=hook)["id"]
    call("POST", "/v0.5/files", files={"any": ("named.jsonl", LINES, "text/plain")})
    datasets = [{"name": MARK, "split": "train", "file_ids": ["named.jsonl"]}]
    config = {"model": "trine-general", "datasets": datasets}
    wish = {"name": MARK, "id": "named-job", "config": config}
    call("POST", "/v0.5/fine-tune/jobs", json=wish)
    call("PUT", "/v0.5/fine-tune/jobs/named-job/cancel", json={})
    ids = {"file": file, "upload": upload_id, "job": job["id"], "endpoint": endpoint}
    return job["id"], ids | {"file name": "named.jsonl", "job name": "named-job", "event": "evt_1"}


def _plant_domain(call: Any) -> dict[str, str]:
    """A domain with people, outcomes, a run, a head on its way and a match."""
    call("PUT", "/v1/schema", json=SCHEMA)
    labels = [{"name": MARK, "level": "accepted"}]
    call("PUT", f"/v1/labels?domain={DOMAIN}", json={"labels": labels})
    call("PUT", "/v1/rolloutPolicy", json=SHADOW)
    for number in range(PEOPLE):
        fields = {"age": 20 + number % 40, MARK: f"{MARK}_{'ab'[number % 2]}"}
        user = {"user_id": f"guest{number}", "domain": DOMAIN, "fields": fields, "context": MARK}
        call("POST", "/v1/users", json=user)
    items = [
        {
            "seeker_id": f"guest{seeker}",
            "candidate_id": f"guest{candidate}",
            "outcome": MARK if candidate % 2 else "rejected",
            "occurred_at": "2026-05-17T12:00:00Z",
        }
        for seeker in range(40)
        for candidate in range(PEOPLE)
        if candidate != seeker
    ]
    for start in range(0, len(items), 1_000):
        call("POST", "/v1/feedback", json={"domain": DOMAIN, "items": items[start : start + 1_000]})
    run = call("POST", "/v1/train", json={"domain": DOMAIN, "force": True})["run_id"]
    found: Json = until(lambda: _over(call("GET", f"/v1/runs/{run}")), 200)
    assert found["verdict"]["result"] == "rollout", found["verdict"]
    match = call("POST", "/v1/match", json={"user_id": "guest50", "domain": DOMAIN})
    return {
        "domain": DOMAIN,
        "user": "guest0",
        "candidate": "guest1",
        "run": run,
        "head": found["head"],
        "rollout": found["verdict"]["rollout_id"],
        "match": match["match_id"],
    }


def _over(run: Json) -> Json | None:
    return run if run["status"] in ENDS else None
