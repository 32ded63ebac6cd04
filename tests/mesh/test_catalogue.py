"""A shop: nobody says no, a run starts all the same, and a fresh choice changes the next match."""

from functools import partial

from tests.support.mesh import Json, Mesh, until

DOMAIN = "shop"
TASTES = 2
ITEMS = 24
SHOPPERS = 40


def chosen(shopper: int, item: int) -> Json:
    """A shopper's choice, in an order of their own."""
    return {
        "seeker_id": f"s{shopper}",
        "candidate_id": f"i{item}",
        "outcome": "accepted",
        "occurred_at": f"2026-05-{(7 * item + 5 * shopper) % 28 + 1:02d}T12:00:00Z",
    }


def choices(shopper: int) -> list[Json]:
    """Most of the items of the shopper's taste, others for others."""
    liked = range(shopper % TASTES, ITEMS, TASTES)
    return [chosen(shopper, item) for item in liked if (item // TASTES + shopper) % 3]


def test_a_domain_of_positive_outcomes_alone_learns_who_goes_with_whom(mesh: Mesh) -> None:
    fields = [{"name": "kind", "kind": "hard", "type": "enum", "members": ["item", "shopper"]}]
    mesh.call("PUT", "/v1/schema", {"domain": DOMAIN, "fields": fields})
    for name, count, kind in (("i", ITEMS, "item"), ("s", SHOPPERS + 1, "shopper")):
        for number in range(count):
            user = {"user_id": f"{name}{number}", "domain": DOMAIN, "fields": {"kind": kind}}
            mesh.call("POST", "/v1/users", user)
    mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": choices(0)})
    refusal = mesh.http.post("/v1/train", json={"domain": DOMAIN, "force": True}).json()
    assert refusal["details"][0]["reason"] == "NO_TRIPLETS"
    items = [item for shopper in range(1, SHOPPERS) for item in choices(shopper)]
    mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": items})

    run = mesh.train(DOMAIN)
    assert run["verdict"]["result"] == "promoted", run["verdict"]
    assert run["triplets_used"] == len(items) + len(choices(0))

    newcomer = f"s{SHOPPERS}"
    wish = {"user_id": newcomer, "domain": DOMAIN, "limit": 5, "filters": {"kind": "item"}}

    def offered() -> list[int]:
        answer = mesh.call("POST", "/v1/match", {**wish, "exclude_seen": True, "explain": True})
        loaded = answer["models_used"].get("light_ml", {}).get("tier") == "tenant"
        return [int(match["user_id"][1:]) for match in answer["matches"]] if loaded else []

    def matching(tastes: list[int]) -> bool | None:
        return [item % TASTES for item in offered()[:2]] == tastes or None

    until(lambda: offered() or None)
    for taste in range(TASTES):
        fresh = [chosen(SHOPPERS, item) for item in range(taste, 8 * taste + 8, 4)]
        now = [{**item, "occurred_at": f"2026-06-{taste + 1:02d}T12:00:00Z"} for item in fresh]
        mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": now})
        until(partial(matching, [taste, taste]))
    answer = mesh.call("POST", "/v1/match", {**wish, "explain": True})
    first = answer["matches"][0]["explanation"]
    told = [c["source"] for c in first["contributions"] if abs(c["value"]) > 1e-4]
    assert told == ["history"]
    assert first["outcomes"]["given_positive"] == 6
