"""Giving an API key a new secret, while the one before stays good for a while."""

import datetime

from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import FieldInvalidError, KeyNotFoundError
from services.gateway.core.ports import Clock, KeyStore

OVERLAP_SECONDS = 86_400.0
OVERLAP_SECONDS_MAX = 30 * 86_400
_ATTEMPTS_MAX = 8


async def rotate_api_key(
    store: KeyStore,
    clock: Clock,
    *,
    key_id: str,
    secret_hash: bytes,
    overlap_seconds: float = OVERLAP_SECONDS,
) -> ApiKey:
    """Returns the key as it is now.

    Raises:
        FieldInvalidError: the overlap is too long.
        KeyNotFoundError: there is no such key, or it is revoked.
    """
    if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
        raise FieldInvalidError("overlap", "a duration of 0 seconds to 30 days")
    overlap = datetime.timedelta(seconds=overlap_seconds)
    for _ in range(_ATTEMPTS_MAX):  # another rotation may come between
        key = await store.find_key(key_id)
        if key is None or key.revoked:
            break
        rotated = key.rotated(secret_hash, clock.now(), overlap)
        if await store.replace_secrets(key, rotated):
            return rotated
    raise KeyNotFoundError(key_id)
