"""Tenants and keys in PostgreSQL."""

from pathlib import Path

import asyncpg

from services.chassis.database import Pool, load_queries, migrations_of
from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import (
    KeyNotFoundError,
    TenantExistsError,
    TenantNotFoundError,
)

SCHEMA = "gateway"
_HERE = Path(__file__).parent
MIGRATIONS = migrations_of(_HERE / "migrations")
_SQL = load_queries(_HERE / "queries.sql")


class PostgresKeyStore:
    """The key store on a pool bound to the gateway's schema."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_tenant(self, tenant: str) -> None:
        """Adds a tenant."""
        if not await self._pool.fetchval(_SQL["add_tenant"], tenant):
            raise TenantExistsError(tenant)

    async def add_key(self, key: ApiKey) -> None:
        """Adds a key."""
        values = (key.key_id, key.secret_hash, key.tenant, sorted(key.scopes), key.expire_time)
        try:
            await self._pool.execute(_SQL["add_key"], *values)
        except asyncpg.ForeignKeyViolationError:
            raise TenantNotFoundError(key.tenant) from None

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of an id."""
        row = await self._pool.fetchrow(_SQL["find_key"], key_id)
        if row is None:
            return None
        return ApiKey(**{**dict(row), "scopes": frozenset(row["scopes"])})

    async def revoke_key(self, key_id: str) -> None:
        """Marks a key as revoked."""
        if not await self._pool.fetchval(_SQL["revoke_key"], key_id):
            raise KeyNotFoundError(key_id)
