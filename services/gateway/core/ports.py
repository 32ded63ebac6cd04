"""What the gateway's core needs from outside."""

import datetime
from typing import Protocol

from services.gateway.core.api_key import ApiKey


class KeyStore(Protocol):
    """Tenants and keys, durable once a method returns."""

    async def add_tenant(self, tenant: str) -> None:
        """Adds a tenant.

        Raises:
            TenantExistsError: it is there already.
        """
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Adds a key.

        Raises:
            TenantNotFoundError: its tenant does not exist.
        """
        ...

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of an id."""
        ...

    async def revoke_key(self, key_id: str) -> None:
        """Marks a key as revoked; a repeat changes nothing.

        Raises:
            KeyNotFoundError: there is no such key.
        """
        ...


class Clock(Protocol):
    """The wall clock."""

    def now(self) -> datetime.datetime:
        """Now, in UTC."""
        ...
