"""Tenants and keys in dictionaries, for tests."""

import dataclasses
import datetime

from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import (
    KeyNotFoundError,
    TenantExistsError,
    TenantNotFoundError,
)


class MemoryKeyStore:
    """The key store of a test."""

    def __init__(self) -> None:
        self._tenants: set[str] = set()
        self._keys: dict[str, ApiKey] = {}

    async def add_tenant(self, tenant: str) -> None:
        """Adds a tenant."""
        if tenant in self._tenants:
            raise TenantExistsError(tenant)
        self._tenants.add(tenant)

    async def has_tenant(self, tenant: str) -> bool:
        """Says whether there is a tenant."""
        return tenant in self._tenants

    async def add_key(self, key: ApiKey) -> None:
        """Adds a key."""
        if key.tenant not in self._tenants:
            raise TenantNotFoundError(key.tenant)
        self._keys[key.key_id] = key

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of an id."""
        return self._keys.get(key_id)

    async def replace_secrets(self, key: ApiKey, rotated: ApiKey) -> bool:
        """Gives a key another's secrets."""
        now = self._keys.get(key.key_id)
        if now is None or now.revoked or now.secret_hash != key.secret_hash:
            return False
        self._keys[key.key_id] = rotated
        return True

    async def note_use(self, key_id: str, secret_hash: bytes, now: datetime.datetime) -> None:
        """Keeps when a secret was last used."""
        key = self._keys.get(key_id)
        if key is not None and key.secret_hash == secret_hash:
            self._keys[key_id] = dataclasses.replace(key, last_used_time=now)
        elif key is not None and key.old_secret_hash == secret_hash:
            self._keys[key_id] = dataclasses.replace(key, old_secret_last_used_time=now)

    async def revoke_key(self, key_id: str) -> None:
        """Marks a key as revoked."""
        if key_id not in self._keys:
            raise KeyNotFoundError(key_id)
        self._keys[key_id] = dataclasses.replace(self._keys[key_id], revoked=True)
