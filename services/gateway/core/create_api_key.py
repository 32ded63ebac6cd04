"""Creating an API key for a tenant."""

import datetime

from services.gateway.core.api_key import SCOPES, ApiKey, check_scopes, check_tenant
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.ports import Clock, KeyStore

TTL_SECONDS_MAX = 100 * 365 * 86_400


async def create_api_key(
    store: KeyStore,
    clock: Clock,
    *,
    tenant: str,
    scopes: frozenset[str],
    ttl_seconds: float | None,
    key_id: str,
    secret_hash: bytes,
) -> None:
    """Stores a freshly minted key; without scopes it gets all of them."""
    check_tenant(tenant)
    check_scopes(scopes)
    expire_time = None
    if ttl_seconds is not None:
        if not 1 <= ttl_seconds <= TTL_SECONDS_MAX:
            raise FieldInvalidError("ttl", "a duration of 1 second to 100 years")
        expire_time = clock.now() + datetime.timedelta(seconds=ttl_seconds)
    await store.add_key(
        ApiKey(
            key_id=key_id,
            secret_hash=secret_hash,
            tenant=tenant,
            scopes=scopes or SCOPES,
            expire_time=expire_time,
        )
    )
