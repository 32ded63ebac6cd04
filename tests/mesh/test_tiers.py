"""Three tenants on a real mesh: two share a domain, the third is served by what they taught it."""

import copy
from collections.abc import Iterator

import httpx
import pytest
from typer.testing import CliRunner

from services.mesh.__main__ import app
from tests.support.clients import new_key
from tests.support.mesh import Json, Mesh, set_environment, until

DOMAIN = "shared"
PEOPLE = 40


def alike(seeker: int, candidate: int) -> bool:
    """Whether two people want the same: a matter of the pair, which nobody's counters tell."""
    return (seeker - candidate) % 2 == 0


def as_tenant(mesh: Mesh, tenant: str) -> Mesh:
    """The mesh as another tenant sees it."""
    other = copy.copy(mesh)
    key = new_key(mesh, tenant)
    other.http = httpx.Client(
        base_url=mesh.told["rest"], headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
    return other


@pytest.fixture(scope="module")
def tenants(mesh: Mesh) -> Iterator[list[Mesh]]:
    """Two tenants that share a domain in which like is attracted by like, and one that does not."""
    found = [as_tenant(mesh, name) for name in ("tiers-a", "tiers-b", "tiers-c")]
    for tenant in found:
        tenant.fill(DOMAIN, PEOPLE)
    for tenant in found[:2]:
        tenant.report(DOMAIN, range(25), PEOPLE, likes=alike)
        answer = tenant.call("PUT", "/v1/sharing", {"domain": DOMAIN, "enabled": True})
        assert answer == {"domain": DOMAIN, "enabled": True}
    yield found
    for tenant in found:
        tenant.http.close()


def train_domain(mesh: Mesh) -> str:
    """What `trine train-domain` prints, once it has ended."""
    with set_environment(TRINE_HOME=str(mesh.home.folder)):
        result = CliRunner().invoke(app, ["train-domain", DOMAIN, "--force"])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def domain_head(mesh: Mesh, tenants: list[Mesh]) -> str:
    """The domain head, in use."""
    assert "promoted" in train_domain(mesh)
    (head,) = tenants[2].call("GET", "/v1/heads", domain=DOMAIN)["heads"]
    return str(head["head"])


def model(tenant: Mesh) -> Json:
    """What ranks a tenant's matches."""
    answer = tenant.match(f"u{PEOPLE - 1}", DOMAIN, limit=10)
    used: Json = answer["models_used"]["embedding"]
    return used


def served_by(tenant: Mesh, tier: str, head: str) -> None:
    """Waits until a head ranks a tenant's matches."""
    wanted = {"tier": tier, "version": head}
    until(lambda: True if model(tenant) == wanted else None)


def test_who_has_no_outcomes_is_served_by_what_others_taught(
    tenants: list[Mesh], domain_head: str
) -> None:
    newcomer = tenants[2]
    assert newcomer.call("GET", "/v1/sharing", domain=DOMAIN)["enabled"] is False
    served_by(newcomer, "domain", domain_head)
    matches = newcomer.match("u39", DOMAIN, limit=10)["matches"]
    assert sum(int(match["user_id"][1:]) % 2 for match in matches) >= 9
    (listed,) = newcomer.call("GET", "/v1/heads", domain=DOMAIN)["heads"]
    assert (listed["tier"], listed["promoted"], listed["parent"]) == ("domain", True, "general")
    assert "verdict" not in listed
    assert (listed["run_id"], listed["manifest_digest"]) == ("", "")
    refusal = newcomer.refused("GET", f"/v1/heads/{domain_head}/lineage")
    assert refusal["reason"] == "HEAD_NOT_FOUND"
    for name in (f"trine-{DOMAIN}", domain_head):
        assert newcomer.call("GET", f"/v1/models/{name}")["owned_by"] == "trine"
        embedded = newcomer.call("POST", "/v1/embeddings", {"model": name, "input": "sailing"})
        assert len(embedded["data"][0]["embedding"]) == 384


def test_a_tenant_graduates_by_its_own_run_and_falls_back_to_the_domain(
    tenants: list[Mesh], domain_head: str
) -> None:
    tenant = tenants[2]
    # Here opposites attract: what others taught is wrong.
    tenant.report(DOMAIN, range(30), PEOPLE, likes=lambda *pair: not alike(*pair))
    run = tenant.train(DOMAIN)
    assert run["verdict"]["result"] == "promoted", run["verdict"]["reasons"]
    assert run["verdict"]["incumbent"] == domain_head
    served_by(tenant, "tenant", run["head"])
    lineage = tenant.call("GET", f"/v1/heads/{run['head']}/lineage")
    ancestors = [(ancestor["head"], ancestor["tier"]) for ancestor in lineage["ancestors"]]
    assert ancestors == [(domain_head, "domain"), ("general", "general")]
    assert lineage["ancestors"][0]["triplets_used"] == 0
    back = tenant.call("POST", "/v1/heads:rollBack", {"domain": DOMAIN})
    assert back == {"domain": DOMAIN, "head": domain_head, "rolled_back_head": run["head"]}
    served_by(tenant, "domain", domain_head)


def test_alone_nobody_teaches_a_domain(mesh: Mesh, tenants: list[Mesh], domain_head: str) -> None:
    tenants[0].call("PUT", "/v1/sharing", {"domain": DOMAIN, "enabled": False})
    with set_environment(TRINE_HOME=str(mesh.home.folder)):
        result = CliRunner().invoke(app, ["train-domain", DOMAIN, "--force"])
    assert result.exit_code == 1
    assert "Too few tenants" in result.output
    assert model(tenants[0])["version"] == domain_head
