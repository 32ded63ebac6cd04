"""Tenants and keys in PostgreSQL."""

import datetime

import asyncpg

from services.chassis.database import EVERYONE, Database
from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import (
    KeyNotFoundError,
    TenantExistsError,
    TenantNotFoundError,
)
from services.gateway.postgres.queries import SQL


class PostgresKeyStore:
    """The key store on a database bound to the gateway's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_tenant(self, tenant: str) -> None:
        """Adds a tenant."""
        if not await self._database.of(tenant).fetchval(SQL["add_tenant"], tenant):
            raise TenantExistsError(tenant)

    async def has_tenant(self, tenant: str) -> bool:
        """Says whether there is a tenant."""
        return bool(await self._database.of(tenant).fetchval(SQL["has_tenant"], tenant))

    async def add_key(self, key: ApiKey) -> None:
        """Adds a key."""
        values = (key.key_id, key.secret_hash, key.tenant, sorted(key.scopes), key.expire_time)
        try:
            await self._database.of(key.tenant).execute(SQL["add_key"], *values)
        except asyncpg.ForeignKeyViolationError:
            raise TenantNotFoundError(key.tenant) from None

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of an id."""
        row = await self._database.of(EVERYONE).fetchrow(SQL["find_key"], key_id)
        if row is None:
            return None
        return ApiKey(**{**dict(row), "scopes": frozenset(row["scopes"])})

    async def replace_secrets(self, key: ApiKey, rotated: ApiKey) -> bool:
        """Gives a key another's secrets."""
        replaced = await self._database.of(key.tenant).fetchval(
            SQL["replace_secrets"],
            key.key_id,
            key.secret_hash,
            rotated.secret_hash,
            rotated.last_used_time,
            rotated.old_secret_hash,
            rotated.old_secret_expire_time,
            rotated.old_secret_last_used_time,
        )
        return bool(replaced)

    async def note_use(self, key_id: str, secret_hash: bytes, now: datetime.datetime) -> None:
        """Keeps when a secret was last used."""
        await self._database.of(EVERYONE).execute(SQL["note_use"], key_id, secret_hash, now)

    async def revoke_key(self, key_id: str) -> None:
        """Marks a key as revoked."""
        if not await self._database.of(EVERYONE).fetchval(SQL["revoke_key"], key_id):
            raise KeyNotFoundError(key_id)
