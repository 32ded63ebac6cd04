"""A head comes into use step by step: a worse one goes back by itself, a good one is promoted."""

from collections.abc import Callable

import pytest

from tests.support.mesh import PEOPLE, Json, Mesh, until

DOMAIN = "careful"
POLICY: Json = {
    "domain": DOMAIN,
    "shadow": {"share": 1, "matches_min": 5},
    "canary": {"share": 0.5, "outcomes_min": 40, "loss_max": 0.2},
}


@pytest.fixture(scope="module")
def careful(mesh: Mesh) -> Mesh:
    """A domain in which odd people are loved, and heads come into use step by step."""
    mesh.fill(DOMAIN)
    mesh.report(DOMAIN, range(40))
    policy = mesh.call("PUT", "/v1/rolloutPolicy", POLICY)
    assert (policy["shadow"]["seconds_max"], policy["canary"]["share"]) == (604_800, 0.5)
    assert mesh.call("GET", "/v1/rolloutPolicy", domain=DOMAIN) == policy
    return mesh


def start(mesh: Mesh) -> str:
    """Trains a head that passes the gate and returns its rollout."""
    run = mesh.train(DOMAIN)
    assert run["verdict"]["result"] == "rollout", run["verdict"]["reasons"]
    rollout_id: str = run["verdict"]["rollout_id"]
    (first, *_) = mesh.call("GET", "/v1/rollouts", domain=DOMAIN)["rollouts"]
    assert (first["rollout_id"], first["challenger"]) == (rollout_id, run["head"])
    return rollout_id


def reach(mesh: Mesh, rollout_id: str, status: str) -> Json:
    """Waits for a status."""

    def ask() -> Json | None:
        found = mesh.call("GET", f"/v1/rollouts/{rollout_id}")
        assert found["status"] in {"shadow", "canary", status}, found["reason"]
        return found if found["status"] == status else None

    found: Json = until(ask, 20)
    return found


def pass_shadow(mesh: Mesh, rollout_id: str) -> Json:
    """Matches until the challenger has ranked enough of them unseen."""

    def ask() -> Json | None:
        mesh.match("u50", DOMAIN)
        found = mesh.call("GET", f"/v1/rollouts/{rollout_id}")
        return found if found["status"] == "canary" else None

    found: Json = until(ask, 20)
    until(lambda: arm_of(mesh.match("u50", DOMAIN)))
    return found


def arm_of(answer: Json) -> str | None:
    """Who answered."""
    arm: str | None = answer["models_used"]["embedding"].get("arm")
    return arm


def live(mesh: Mesh, accepts: Callable[[str | None, int], bool]) -> dict[str, str | None]:
    """Everyone is matched and says what they think of whom they are shown; returns their arms."""
    arms: dict[str, str | None] = {}
    for number in range(PEOPLE):
        seeker = f"u{number}"
        answer = mesh.match(seeker, DOMAIN, limit=5)
        arms[seeker] = arm_of(answer)
        items = [
            {
                "seeker_id": seeker,
                "candidate_id": shown["user_id"],
                "outcome": "accepted"
                if accepts(arms[seeker], int(shown["user_id"][1:]))
                else "rejected",
                "match_id": answer["match_id"],
                "occurred_at": "2026-05-16T12:00:00Z",  # before what is trained on
            }
            for shown in answer["matches"]
        ]
        mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": items})
    return arms


def test_a_challenger_that_is_rejected_goes_back_by_itself(careful: Mesh) -> None:
    rollout_id = start(careful)
    seen = pass_shadow(careful, rollout_id)["shadow"]
    assert seen["matches_count"] >= 5
    assert (seen["errors_count"], seen["dropped_count"]) == (0, 0)
    assert 0 <= seen["overlap"] <= 1
    assert seen["challenger_seconds"] > 0
    arms = live(careful, lambda arm, _: arm == "incumbent")
    assert {"challenger", "incumbent"} <= set(
        arms.values()
    )  # None for the last, if it is over by then
    found = reach(careful, rollout_id, "returned")
    assert found["reason"].startswith("It has regressed:")
    assert found["gain"]["high"] < 0
    assert found["challenger_arm"]["positives_count"] == 0
    assert found["incumbent_arm"]["positives_count"] == found["incumbent_arm"]["outcomes_count"]
    until(lambda: None if arm_of(careful.match("u50", DOMAIN)) else True)
    assert not any(h["promoted"] for h in careful.call("GET", "/v1/heads", domain=DOMAIN)["heads"])


def test_a_challenger_that_is_liked_is_promoted_to_everyone(careful: Mesh) -> None:
    careful.call("PUT", "/v1/rolloutPolicy", {"domain": DOMAIN, "canary": POLICY["canary"]})
    rollout_id = start(careful)
    until(lambda: arm_of(careful.match("u50", DOMAIN)))
    arms = [[arm_of(careful.match(f"u{n}", DOMAIN)) for n in range(20)] for _ in range(2)]
    assert arms[0] == arms[1]
    assert set(arms[0]) == {"challenger", "incumbent"}
    live(careful, lambda _, candidate: candidate % 2 == 1)
    found = reach(careful, rollout_id, "promoted")
    assert found["gain"]["low"] > -0.2
    assert found["challenger_arm"]["outcomes_count"] >= 40
    head = found["challenger"]
    assert careful.call("GET", f"/v1/heads/{head}")["promoted"]

    def everyone() -> bool | None:
        answers = [careful.match(seeker, DOMAIN) for seeker in ("u1", "u2", "u3", "u50")]
        used = {answer["models_used"]["embedding"]["version"] for answer in answers}
        return True if used == {head} and not any(map(arm_of, answers)) else None

    until(everyone)
    refusal = careful.refused("POST", f"/v1/rollouts/{rollout_id}:abort", {})
    assert (refusal["status"], refusal["reason"]) == (400, "ROLLOUT_ENDED")
