"""Consent and shared domains as callers, the scheduler and trainers meet them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.triplets.v1 import (
    domain_service_pb2,
    domain_service_pb2_grpc,
    sharing_service_pb2,
    sharing_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)

from tests.support.server import ACME, MESH, OTHER, refused
from tests.support.triplets import Store, open_store, outcome


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Two tenants with a domain of one name, people and a triplet in each."""
    async with open_store() as opened:
        for tenant in (ACME, OTHER):
            await opened.put_schema(metadata=tenant)
            for number in range(3):
                await opened.upsert(f"u{number}", metadata=tenant, fields={"age": 20 + number})
            items = (outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
            await opened.report(*items, metadata=tenant)
        yield opened


def put(store: Store, tenant: Any, *, enabled: bool = True, domain: str = "dating") -> Any:
    """Says whether a tenant shares."""
    stub = sharing_service_pb2_grpc.SharingServiceStub(store.channel)
    sharing = sharing_service_pb2.Sharing(domain=domain, enabled=enabled)
    return stub.PutSharing(sharing_service_pb2.PutSharingRequest(sharing=sharing), metadata=tenant)


def get(store: Store, tenant: Any, domain: str = "dating") -> Any:
    """Asks whether a tenant shares."""
    stub = sharing_service_pb2_grpc.SharingServiceStub(store.channel)
    request = sharing_service_pb2.GetSharingRequest(domain=domain)
    return stub.GetSharing(request, metadata=tenant)


def domains(store: Store) -> Any:
    """The control plane's questions."""
    return domain_service_pb2_grpc.DomainServiceStub(store.channel)


async def owners(store: Store, page_size: int = 0) -> list[str]:
    """Whose domains are counted, page by page."""
    found: list[str] = []
    token = ""
    while True:
        request = domain_service_pb2.ListDomainsRequest(page_size=page_size, page_token=token)
        page = await domains(store).ListDomains(request, metadata=MESH)
        found += [domain.tenant for domain in page.domains]
        token = page.next_page_token
        if not token:
            return found


async def test_each_tenant_decides_for_itself(store: Store) -> None:
    assert not (await get(store, ACME)).enabled
    assert (await put(store, ACME)).enabled
    assert (await get(store, ACME)).enabled
    assert not (await get(store, OTHER)).enabled
    assert not (await put(store, ACME, enabled=False)).enabled
    for call in (get(store, ACME, "hiring"), put(store, ACME, domain="hiring")):
        assert (await refused(call)).reason == "DOMAIN_NOT_FOUND"


async def test_a_domain_with_vectors_of_its_own_is_not_shared(store: Store) -> None:
    await store.put_schema(domain="vectors", embedding={"encoder": "caller", "dim": 3})
    refusal = await refused(put(store, ACME, domain="vectors"))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "sharing.enabled")


async def test_what_two_tenants_share_is_counted_as_one_more_domain(store: Store) -> None:
    await put(store, ACME)
    assert await owners(store) == ["acme", "other"]
    key = {"tenant": "_shared", "domain": "dating"}
    asking = domains(store).GetDomain(domain_service_pb2.GetDomainRequest(**key), metadata=MESH)
    refusal = await refused(asking)
    assert (refusal.reason, refusal.metadata["tenants_min"]) == ("TENANTS_TOO_FEW", "2")
    await put(store, OTHER)
    for size in (0, 1, 2):
        assert await owners(store, size) == ["_shared", "acme", "other"]
    told = domain_service_pb2.RecordTrainingRequest(**key, trained_triplets_count=1)
    await domains(store).RecordTraining(told, metadata=MESH)
    request = domain_service_pb2.GetDomainRequest(**key)
    counts = (await domains(store).GetDomain(request, metadata=MESH)).domain
    assert (counts.revision, counts.triplets_count, counts.trained_triplets_count) == (0, 2, 1)


async def test_a_snapshot_of_a_shared_domain_is_refused_to_one_tenant_alone(store: Store) -> None:
    stub = snapshot_service_pb2_grpc.SnapshotServiceStub(store.channel)
    request = snapshot_service_pb2.CreateSnapshotRequest(tenant="_shared", domain="dating")
    await put(store, ACME)
    refusal = await refused(stub.CreateSnapshot(request, metadata=MESH))
    assert refusal.reason == "TENANTS_TOO_FEW"
    await put(store, OTHER)
    joined = await stub.CreateSnapshot(request, metadata=MESH)
    assert (joined.users_count, joined.outcomes_count, joined.triplets_count) == (6, 4, 2)
    assert joined == await stub.CreateSnapshot(request, metadata=MESH)
    assert list((await store.delete("u1")).snapshot_digests) == [joined.digest]
    content = await store.artifacts.get(joined.digest)
    for secret in (b"acme", b"other", b"u1", b"Basel"):
        assert secret not in content
