"""From POST /v1/train to the new head answering."""

import time

import numpy as np

from services.mesh.client import Json
from tests.bench.table import Table
from tests.support.mesh import Mesh, until

DOMAIN = "turn"
TRIPLETS = 4_218
"""As many as in the API's own example."""
SEEKERS = 900
DIM = 64
SEED = 7


def measure_turn(mesh: Mesh, table: Table) -> None:
    """A run of a domain of its own."""
    embedding = {"encoder": "caller", "dim": DIM}
    mesh.call("PUT", "/v1/schema", {"domain": DOMAIN, "fields": [], "embedding": embedding})
    random = np.random.default_rng(SEED)
    for number in range(SEEKERS):
        vector = random.normal(size=DIM).tolist()
        user = {"user_id": f"u{number}", "domain": DOMAIN, "vector": vector}
        mesh.call("POST", "/v1/users", user)
    _report(mesh, random)
    began = time.perf_counter()
    run = mesh.train(DOMAIN)
    table.tell(f"a run over {TRIPLETS:,} triplets", time.perf_counter() - began, "s")
    if run["verdict"]["result"] == "promoted":
        until(lambda: True if run["head"] in str(mesh.match("u1", DOMAIN)) else None)
        table.tell("  until its head answers", time.perf_counter() - began, "s")


def _report(mesh: Mesh, random: np.random.Generator) -> None:
    """Outcomes of one seeker after another, until there are triplets enough."""
    for seeker in range(SEEKERS):
        items: list[Json] = [
            {
                "seeker_id": f"u{seeker}",
                "candidate_id": f"u{candidate}",
                "outcome": "accepted"
                if random.random() < 0.1 + 0.8 * (candidate % 2)
                else "rejected",
            }
            for candidate in random.choice(SEEKERS, 6, replace=False)
            if candidate != seeker
        ]
        answer = mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": items})
        if answer["triplets_pending_train"] >= TRIPLETS:
            return
