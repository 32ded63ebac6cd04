"""What every key store does, in dictionaries and in PostgreSQL."""

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator

import pytest

from services.gateway.core.api_key import SCOPES, ApiKey
from services.gateway.core.errors import (
    KeyNotFoundError,
    TenantExistsError,
    TenantNotFoundError,
)
from services.gateway.core.ports import KeyStore
from services.gateway.memory import MemoryKeyStore
from services.gateway.postgres import MIGRATIONS, PostgresKeyStore
from tests.support.infrastructure import Servers

EXPIRE_TIME = datetime.datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=datetime.UTC)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield PostgresKeyStore(database)


def key_of(
    tenant: str, key_id: str = "key-1", expire_time: datetime.datetime | None = None
) -> ApiKey:
    return ApiKey(
        key_id=key_id,
        secret_hash=bytes(range(32)),
        tenant=tenant,
        scopes=frozenset({"match:read", "heads:write"}),
        expire_time=expire_time,
    )


@pytest.mark.parametrize("expire_time", [None, EXPIRE_TIME])
async def test_a_key_is_found_as_it_was_added(
    store: KeyStore, expire_time: datetime.datetime | None
) -> None:
    await store.add_tenant("acme")
    await store.add_key(key_of("acme", expire_time=expire_time))
    assert await store.find_key("key-1") == key_of("acme", expire_time=expire_time)


async def test_a_key_without_scopes_keeps_none(store: KeyStore) -> None:
    await store.add_tenant("acme")
    bare = ApiKey(
        key_id="bare", secret_hash=bytes(32), tenant="acme", scopes=frozenset(), expire_time=None
    )
    await store.add_key(bare)
    assert await store.find_key("bare") == bare


async def test_an_unknown_key_is_not_found(store: KeyStore) -> None:
    await store.add_tenant("acme")
    await store.add_key(key_of("acme"))
    assert await store.find_key("key-2") is None
    assert await store.find_key("") is None


async def test_a_tenant_is_there_once_it_was_added(store: KeyStore) -> None:
    assert not await store.has_tenant("acme")
    await store.add_tenant("acme")
    assert [await store.has_tenant(name) for name in ("acme", "acm", "")] == [True, False, False]


async def test_a_tenant_is_added_once(store: KeyStore) -> None:
    await store.add_tenant("acme")
    with pytest.raises(TenantExistsError) as caught:
        await store.add_tenant("acme")
    assert caught.value.metadata == {"tenant": "acme"}


async def test_of_twenty_racing_additions_of_a_tenant_one_succeeds(store: KeyStore) -> None:
    results = await asyncio.gather(
        *(store.add_tenant("acme") for _ in range(20)), return_exceptions=True
    )
    assert results.count(None) == 1
    assert sum(isinstance(result, TenantExistsError) for result in results) == 19


async def test_a_key_of_an_unknown_tenant_is_refused_and_not_kept(store: KeyStore) -> None:
    await store.add_tenant("acme")
    with pytest.raises(TenantNotFoundError) as caught:
        await store.add_key(key_of("globex"))
    assert caught.value.metadata == {"tenant": "globex"}
    assert await store.find_key("key-1") is None


async def test_keys_of_two_tenants_stay_apart(store: KeyStore) -> None:
    for tenant in ("acme", "globex"):
        await store.add_tenant(tenant)
        await store.add_key(key_of(tenant, f"key-of-{tenant}"))
    await store.revoke_key("key-of-acme")
    assert await store.find_key("key-of-globex") == key_of("globex", "key-of-globex")


async def test_a_revoked_key_is_found_as_revoked_and_otherwise_unchanged(store: KeyStore) -> None:
    await store.add_tenant("acme")
    await store.add_key(key_of("acme", expire_time=EXPIRE_TIME))
    await store.revoke_key("key-1")
    found = await store.find_key("key-1")
    assert found is not None
    assert found.revoked
    kept = (found.secret_hash, found.tenant, found.scopes, found.expire_time)
    asked = key_of("acme", expire_time=EXPIRE_TIME)
    assert kept == (asked.secret_hash, asked.tenant, asked.scopes, asked.expire_time)


async def test_revoking_a_key_again_changes_nothing(store: KeyStore) -> None:
    await store.add_tenant("acme")
    await store.add_key(key_of("acme"))
    await store.revoke_key("key-1")
    once = await store.find_key("key-1")
    await store.revoke_key("key-1")
    assert await store.find_key("key-1") == once


async def test_a_rotated_key_is_found_with_both_secrets(store: KeyStore) -> None:
    await store.add_tenant("acme")
    key = key_of("acme")
    await store.add_key(key)
    rotated = key.rotated(bytes([1] * 32), EXPIRE_TIME, datetime.timedelta(days=1))
    assert await store.replace_secrets(key, rotated)
    assert await store.find_key("key-1") == rotated
    assert rotated.old_secret_hash == key.secret_hash


async def test_of_two_racing_rotations_one_counts(store: KeyStore) -> None:
    await store.add_tenant("acme")
    key = key_of("acme")
    await store.add_key(key)
    wishes = [
        key.rotated(bytes([number] * 32), EXPIRE_TIME, datetime.timedelta(days=1))
        for number in range(20)
    ]
    done = await asyncio.gather(*(store.replace_secrets(key, wish) for wish in wishes))
    assert sum(done) == 1
    assert await store.find_key("key-1") == wishes[done.index(True)]


async def test_a_revoked_or_unknown_key_is_not_rotated(store: KeyStore) -> None:
    await store.add_tenant("acme")
    key = key_of("acme")
    rotated = key.rotated(bytes([1] * 32), EXPIRE_TIME, datetime.timedelta(days=1))
    assert not await store.replace_secrets(key, rotated)
    await store.add_key(key)
    await store.revoke_key("key-1")
    assert not await store.replace_secrets(key, rotated)


async def test_the_use_of_each_secret_is_noted(store: KeyStore) -> None:
    await store.add_tenant("acme")
    key, later = key_of("acme"), EXPIRE_TIME + datetime.timedelta(hours=1)
    await store.add_key(key)
    await store.note_use("key-1", key.secret_hash, EXPIRE_TIME)
    used = dataclasses.replace(key, last_used_time=EXPIRE_TIME)
    assert await store.find_key("key-1") == used
    rotated = used.rotated(bytes([1] * 32), EXPIRE_TIME, datetime.timedelta(days=1))
    assert await store.replace_secrets(used, rotated)
    await store.note_use("key-1", key.secret_hash, later)
    await store.note_use("key-1", bytes([9] * 32), later)  # a secret that it does not have
    await store.note_use("key-2", key.secret_hash, later)
    assert await store.find_key("key-1") == dataclasses.replace(
        rotated, old_secret_last_used_time=later
    )


async def test_an_unknown_key_cannot_be_revoked(store: KeyStore) -> None:
    with pytest.raises(KeyNotFoundError) as caught:
        await store.revoke_key("key-1")
    assert caught.value.metadata == {"key_id": "key-1"}


async def test_a_key_that_could_do_everything_can_do_what_came_later(
    servers: Servers, schema: str
) -> None:
    async with servers.migrated(schema, MIGRATIONS[:1]) as database:
        first = PostgresKeyStore(database)
        await first.add_tenant("acme")
        everything = SCOPES - {"files:read", "files:write"}
        await first.add_key(dataclasses.replace(key_of("acme", "all"), scopes=everything))
        await first.add_key(key_of("acme", "few"))
    async with servers.migrated(schema, MIGRATIONS) as database:
        found = [await PostgresKeyStore(database).find_key(name) for name in ("all", "few")]
    assert [key.scopes for key in found if key] == [SCOPES, key_of("acme").scopes]


async def test_what_was_acknowledged_is_there_for_the_next_process(
    servers: Servers, schema: str
) -> None:
    async with servers.migrated(schema, MIGRATIONS) as database:
        first = PostgresKeyStore(database)
        await first.add_tenant("acme")
        await first.add_key(key_of("acme"))
        await first.revoke_key("key-1")
    async with servers.migrated(schema, MIGRATIONS) as database:
        found = await PostgresKeyStore(database).find_key("key-1")
    assert found is not None
    assert found.revoked
