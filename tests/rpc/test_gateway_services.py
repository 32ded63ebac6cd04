"""The gateway's services: tenants and their keys, and the health of the mesh from outside."""

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2
from trine.gateway.v1 import access_service_pb2 as pb
from trine.gateway.v1 import access_service_pb2_grpc

from services.chassis.api_key import HashedKey, mint_api_key, parse_api_key
from services.chassis.auth import resolver
from services.chassis.channel import open_channel
from services.chassis.clock import ManualClock
from services.chassis.server import NOT_SERVING, SERVING, Health, set_health
from services.gateway.core.api_key import SCOPES
from services.gateway.health import MeshHealth
from services.gateway.memory import MemoryKeyStore
from services.gateway.rpc import ERRORS, AccessServicer
from services.gateway.wiring import NAME
from tests.support.server import ACME, MESH, MESH_TOKEN, free_address, refused, running

NOW = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
SECONDS_PER_YEAR = 365 * 86_400


@dataclass
class Gateway:
    """The service, its stub and the world around it."""

    address: str
    stub: access_service_pb2_grpc.AccessServiceStub
    store: MemoryKeyStore
    clock: ManualClock

    def create_tenant(self, tenant: str) -> Any:
        """Creates a tenant."""
        return self.stub.CreateTenant(pb.CreateTenantRequest(tenant=tenant), metadata=MESH)

    def get_tenant(self, tenant: str) -> Any:
        """Looks for a tenant."""
        return self.stub.GetTenant(pb.GetTenantRequest(tenant=tenant), metadata=MESH)

    def create_key(self, tenant: str = "acme", **content: Any) -> Any:
        """Creates a key."""
        request = pb.CreateApiKeyRequest(tenant=tenant, **content)
        return self.stub.CreateApiKey(request, metadata=MESH)

    def resolve(self, key: HashedKey) -> Any:
        """Asks whose a key is."""
        request = pb.ResolveApiKeyRequest(key_id=key.key_id, secret_hash=key.secret_hash)
        return self.stub.ResolveApiKey(request, metadata=MESH)

    def rotate(self, key_id: str, **content: Any) -> Any:
        """Gives a key a new secret."""
        request = pb.RotateApiKeyRequest(key_id=key_id, **content)
        return self.stub.RotateApiKey(request, metadata=MESH)

    def show(self, key_id: str) -> Any:
        """Asks what is known of a key."""
        return self.stub.GetApiKey(pb.GetApiKeyRequest(key_id=key_id), metadata=MESH)

    def revoke(self, key_id: str) -> Any:
        """Revokes a key."""
        return self.stub.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key_id), metadata=MESH)

    async def hold_key(self, **content: Any) -> HashedKey:
        """Creates a key and returns what its holder's calls are checked by."""
        key = parse_api_key((await self.create_key(**content)).api_key)
        assert key is not None
        return key


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway with the tenant acme."""
    address, store, clock = free_address(), MemoryKeyStore(), ManualClock(NOW)

    def add(server: grpc.aio.Server) -> None:
        servicer = AccessServicer(store, clock)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(servicer, server)

    async with running(ERRORS, add, [NAME], address) as channel:
        stub = access_service_pb2_grpc.AccessServiceStub(channel)
        made = Gateway(address, stub, store, clock)
        await made.create_tenant("acme")
        yield made


async def test_a_new_key_is_its_tenants_and_holds_every_scope(gateway: Gateway) -> None:
    created = await gateway.create_key()
    key = parse_api_key(created.api_key)
    assert key is not None
    assert key.key_id == created.key_id
    answer = await gateway.resolve(key)
    assert (answer.tenant, sorted(answer.scopes)) == ("acme", sorted(SCOPES))
    assert not answer.HasField("expire_time")


async def test_what_is_kept_of_a_key_does_not_tell_its_secret(gateway: Gateway) -> None:
    created = await gateway.create_key()
    secret = created.api_key.partition(created.key_id)[2]
    assert secret
    kept = await gateway.store.find_key(created.key_id)
    assert secret not in repr(kept)


async def test_two_keys_are_never_alike(gateway: Gateway) -> None:
    keys = {(await gateway.create_key()).api_key for _ in range(20)}
    assert len(keys) == 20


async def test_a_key_holds_the_scopes_that_it_was_given(gateway: Gateway) -> None:
    key = await gateway.hold_key(scopes=["runs:read", "match:read"])
    assert list((await gateway.resolve(key)).scopes) == ["match:read", "runs:read"]


async def test_a_key_with_an_end_is_good_until_then(gateway: Gateway) -> None:
    key = await gateway.hold_key(ttl=duration_pb2.Duration(seconds=60))
    answer = await gateway.resolve(key)
    assert answer.expire_time.ToDatetime(datetime.UTC) == NOW + datetime.timedelta(seconds=60)
    gateway.clock.advance(59.9)
    await gateway.resolve(key)
    gateway.clock.advance(0.1)
    assert (await refused(gateway.resolve(key))).reason == "API_KEY_INVALID"


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(gateway: Gateway) -> None:
    good, revoked = await gateway.hold_key(), await gateway.hold_key()
    expired = await gateway.hold_key(ttl=duration_pb2.Duration(seconds=1))
    gateway.clock.advance(1)
    await gateway.revoke(revoked.key_id)
    stranger = mint_api_key()[1]
    wrong = [
        stranger,
        revoked,
        expired,
        HashedKey(good.key_id, stranger.secret_hash),
        HashedKey(good.key_id, b""),
        HashedKey("", good.secret_hash),
        HashedKey("", bytes(32)),
    ]
    answers = [await refused(gateway.resolve(key)) for key in wrong]
    assert {(a.code.name, a.reason) for a in answers} == {("UNAUTHENTICATED", "API_KEY_INVALID")}
    assert len({answer.message for answer in answers}) == 1
    assert all(answer.metadata == {} for answer in answers)
    assert (await gateway.resolve(good)).tenant == "acme"


async def test_a_key_may_be_revoked_twice(gateway: Gateway) -> None:
    key = await gateway.hold_key()
    for _ in range(2):
        await gateway.revoke(key.key_id)
        assert (await refused(gateway.resolve(key))).reason == "API_KEY_INVALID"
    refusal = await refused(gateway.revoke("nobody"))
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "API_KEY_NOT_FOUND")
    assert refusal.metadata == {"key_id": "nobody"}


async def next_secret(gateway: Gateway, key: HashedKey, **content: Any) -> HashedKey:
    """Rotates a key and returns what its newest text is checked by."""
    rotated = parse_api_key((await gateway.rotate(key.key_id, **content)).api_key)
    assert rotated is not None
    assert rotated.key_id == key.key_id
    return rotated


async def test_a_rotated_key_has_two_secrets_until_the_old_one_ends(gateway: Gateway) -> None:
    old = await gateway.hold_key(scopes=["runs:read"])
    new = await next_secret(gateway, old, overlap=duration_pb2.Duration(seconds=60))
    for key in (old, new):
        assert list((await gateway.resolve(key)).scopes) == ["runs:read"]
    ends = (await gateway.resolve(old)).expire_time.ToDatetime(datetime.UTC)
    assert ends == NOW + datetime.timedelta(seconds=60)
    assert not (await gateway.resolve(new)).HasField("expire_time")
    gateway.clock.advance(60)
    assert (await refused(gateway.resolve(old))).reason == "API_KEY_INVALID"
    await gateway.resolve(new)


async def test_a_rotation_lengthens_no_life(gateway: Gateway) -> None:
    old = await gateway.hold_key(ttl=duration_pb2.Duration(seconds=30))
    new = await next_secret(gateway, old)
    gateway.clock.advance(30)
    for key in (old, new):
        assert (await refused(gateway.resolve(key))).reason == "API_KEY_INVALID"


async def test_a_repeated_rotation_drops_the_secret_that_nobody_has_used(gateway: Gateway) -> None:
    old = await gateway.hold_key()
    lost, new = await next_secret(gateway, old), await next_secret(gateway, old)
    await gateway.resolve(old)
    await gateway.resolve(new)
    assert (await refused(gateway.resolve(lost))).reason == "API_KEY_INVALID"


async def test_a_secret_in_use_survives_the_next_rotation(gateway: Gateway) -> None:
    first = await gateway.hold_key()
    second = await next_secret(gateway, first)
    await gateway.resolve(second)
    third = await next_secret(gateway, first)
    await gateway.resolve(second)
    await gateway.resolve(third)
    assert (await refused(gateway.resolve(first))).reason == "API_KEY_INVALID"


async def test_a_revoked_key_is_dead_with_both_its_secrets(gateway: Gateway) -> None:
    old = await gateway.hold_key()
    new = await next_secret(gateway, old)
    await gateway.revoke(old.key_id)
    for key in (old, new):
        assert (await refused(gateway.resolve(key))).reason == "API_KEY_INVALID"
    for key_id in (old.key_id, "nobody", ""):
        refusal = await refused(gateway.rotate(key_id))
        assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "API_KEY_NOT_FOUND")


async def test_no_secret_is_the_one_before_of_a_key_that_was_never_rotated(
    gateway: Gateway,
) -> None:
    key = await gateway.hold_key()
    guess = HashedKey(key.key_id, bytes(32))
    assert (await refused(gateway.resolve(guess))).reason == "API_KEY_INVALID"


@pytest.mark.parametrize("seconds", [-1, 31 * 86_400, 10**15])
async def test_an_overlap_that_is_too_long_is_refused(gateway: Gateway, seconds: int) -> None:
    key = await gateway.hold_key()
    overlap = duration_pb2.Duration(seconds=seconds)
    refusal = await refused(gateway.rotate(key.key_id, overlap=overlap))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "overlap")


async def test_the_last_use_of_each_secret_is_told_to_the_minute(gateway: Gateway) -> None:
    old = await gateway.hold_key()
    assert not (await gateway.show(old.key_id)).HasField("last_used_time")
    await gateway.resolve(old)
    gateway.clock.advance(59)
    await gateway.resolve(old)
    told = await gateway.show(old.key_id)
    assert told.last_used_time.ToDatetime(datetime.UTC) == NOW
    new = await next_secret(gateway, old)
    gateway.clock.advance(1)
    await gateway.resolve(old)
    told = await gateway.show(new.key_id)
    assert not told.HasField("last_used_time")
    minute = NOW + datetime.timedelta(seconds=60)
    assert told.old_secret_last_used_time.ToDatetime(datetime.UTC) == minute
    assert (told.tenant, told.revoked) == ("acme", False)
    assert (await refused(gateway.show("nobody"))).reason == "API_KEY_NOT_FOUND"


async def test_a_tenant_is_created_once(gateway: Gateway) -> None:
    assert (await gateway.create_tenant("other-2")).tenant == "other-2"
    refusal = await refused(gateway.create_tenant("acme"))
    assert (refusal.code.name, refusal.reason) == ("ALREADY_EXISTS", "TENANT_EXISTS")
    assert refusal.metadata == {"tenant": "acme"}
    assert (await gateway.get_tenant("other-2")).tenant == "other-2"
    for call in (gateway.create_key("nobody"), gateway.get_tenant("nobody")):
        refusal = await refused(call)
        assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")


@pytest.mark.parametrize(
    "tenant", ["", "Acme", "1st", "-a", "a.b", "a b", "a*", "a>", "a" * 33, "ä", "a\n"]
)
async def test_a_tenant_that_could_not_stand_in_a_subject_is_refused(
    gateway: Gateway, tenant: str
) -> None:
    for call in (gateway.create_tenant, gateway.create_key, gateway.get_tenant):
        refusal = await refused(call(tenant))
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        assert refusal.metadata["field"] == "tenant"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": ["match:read", ""]}, "scopes"),
        ({"ttl": duration_pb2.Duration()}, "ttl"),
        ({"ttl": duration_pb2.Duration(seconds=-1)}, "ttl"),
        ({"ttl": duration_pb2.Duration(nanos=1)}, "ttl"),
        ({"ttl": duration_pb2.Duration(seconds=101 * SECONDS_PER_YEAR)}, "ttl"),
        ({"ttl": duration_pb2.Duration(seconds=10_000 * SECONDS_PER_YEAR)}, "ttl"),
        ({"ttl": duration_pb2.Duration(seconds=10**15)}, "ttl"),
    ],
)
async def test_a_broken_wish_for_a_key_names_the_field_and_the_rule(
    gateway: Gateway, content: dict[str, Any], field: str
) -> None:
    refusal = await refused(gateway.create_key(**content))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert refusal.metadata["field"] == field
    assert refusal.metadata["rule"] in refusal.message


async def test_every_rpc_is_the_meshs_alone(gateway: Gateway) -> None:
    stub = gateway.stub
    for metadata in (ACME, (), (("trine-mesh-token", "guessed"),)):
        for call in (
            stub.CreateTenant(pb.CreateTenantRequest(tenant="mine"), metadata=metadata),
            stub.GetTenant(pb.GetTenantRequest(tenant="acme"), metadata=metadata),
            stub.CreateApiKey(pb.CreateApiKeyRequest(tenant="acme"), metadata=metadata),
            stub.ResolveApiKey(pb.ResolveApiKeyRequest(), metadata=metadata),
            stub.RotateApiKey(pb.RotateApiKeyRequest(), metadata=metadata),
            stub.GetApiKey(pb.GetApiKeyRequest(), metadata=metadata),
            stub.RevokeApiKey(pb.RevokeApiKeyRequest(), metadata=metadata),
        ):
            refusal = await refused(call)
            assert (refusal.code.name, refusal.reason) == ("PERMISSION_DENIED", "INTERNAL_RPC")


async def test_the_other_services_learn_whose_a_key_is(gateway: Gateway) -> None:
    good = await gateway.hold_key(scopes=["runs:read"], ttl=duration_pb2.Duration(seconds=60))
    async with open_channel(gateway.address, MESH_TOKEN) as channel:
        resolve = resolver(channel)
        grant = await resolve(good)
        assert grant is not None
        assert (grant.tenant, list(grant.scopes)) == ("acme", ["runs:read"])
        assert grant.expire_time == NOW + datetime.timedelta(seconds=60)
        await gateway.revoke(good.key_id)
        assert await resolve(good) is None


async def test_a_gateway_that_does_not_trust_the_asker_says_nothing_of_the_key(
    gateway: Gateway,
) -> None:
    good = await gateway.hold_key()
    async with open_channel(gateway.address, "guessed") as channel:
        with pytest.raises(grpc.aio.AioRpcError):  # not "a bad key": that would be remembered
            await resolver(channel)(good)


OWNED = ["trine.scheduler.v1.RunService", "trine.triplets.v1.UserService"]


async def told(health: Health) -> dict[str, int]:
    """What an outsider hears."""
    names = ["", *OWNED]
    requests = [health_pb2.HealthCheckRequest(service=name) for name in names]
    answers = [await health.Check(request, None) for request in requests]
    return {name: answer.status for name, answer in zip(names, answers, strict=True)}


async def test_the_mesh_is_healthy_when_every_owner_is() -> None:
    public = Health()
    async with (
        running(ERRORS, lambda _: None, OWNED[:1]) as first,
        running(ERRORS, lambda _: None, OWNED[1:]) as second,
    ):
        await MeshHealth(public, dict(zip(OWNED, (first, second), strict=True))).refresh()
        assert set((await told(public)).values()) == {SERVING}


async def test_an_owner_that_is_away_or_not_ready_is_told_by_its_name() -> None:
    public = Health()
    await set_health(public, ["", *OWNED], serving=True)
    async with (
        running(ERRORS, lambda _: None, OWNED[:1]) as first,
        grpc.aio.insecure_channel(free_address()) as away,
    ):
        await MeshHealth(public, dict(zip(OWNED, (first, away), strict=True))).refresh()
        expected = {"": NOT_SERVING, OWNED[0]: SERVING, OWNED[1]: NOT_SERVING}
        assert await told(public) == expected
        await MeshHealth(public, dict.fromkeys(OWNED, first)).refresh()  # it serves but the one
        assert await told(public) == expected
