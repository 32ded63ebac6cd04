"""Creating an API key for a tenant."""

import datetime

from services.gateway.core.api_key import SCOPES, ApiKey, check_scopes, check_tenant
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.ports import Clock, KeyStore


async def create_api_key(
    store: KeyStore,
    clock: Clock,
    *,
    tenant: str,
    scopes: frozenset[str],
    ttl: datetime.timedelta | None,
    key_id: str,
    secret_hash: bytes,
) -> None:
    """Stores a freshly minted key; without scopes it gets all of them."""
    check_tenant(tenant)
    check_scopes(scopes)
    if ttl is not None and ttl <= datetime.timedelta():
        raise FieldInvalidError("ttl", "a duration above zero")
    await store.add_key(
        ApiKey(
            key_id=key_id,
            secret_hash=secret_hash,
            tenant=tenant,
            scopes=scopes or SCOPES,
            expire_time=clock.now() + ttl if ttl else None,
        )
    )
