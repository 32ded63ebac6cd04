"""Telling whose an API key is."""

import hmac

from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import KeyInvalidError
from services.gateway.core.ports import Clock, KeyStore

_NO_HASH = bytes(32)


async def resolve_api_key(
    store: KeyStore, clock: Clock, *, key_id: str, secret_hash: bytes
) -> ApiKey:
    """Returns the key if id and secret belong together and it is in force.

    Raises:
        KeyInvalidError: for every other case, after the same steps, so that time tells nothing
        either.
    """
    key = await store.find_key(key_id)
    matches = hmac.compare_digest(key.secret_hash if key else _NO_HASH, secret_hash)
    if key is None or not matches or key.revoked:
        raise KeyInvalidError
    if key.expire_time is not None and key.expire_time <= clock.now():
        raise KeyInvalidError
    return key
