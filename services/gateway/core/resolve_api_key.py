"""Telling whose an API key is."""

import datetime
import hmac
from dataclasses import replace

from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import KeyInvalidError
from services.gateway.core.ports import Clock, KeyStore

USE_NOTED_SECONDS = 60
"""How exactly it is known when a secret was last used."""
_NO_HASH = bytes(32)
_NOBODYS = ApiKey(
    key_id="",
    secret_hash=_NO_HASH,
    tenant="",
    scopes=frozenset(),
    expire_time=None,
    revoked=True,
)


async def resolve_api_key(
    store: KeyStore, clock: Clock, *, key_id: str, secret_hash: bytes
) -> ApiKey:
    """Returns the key if id and secret belong together and it is in force.

    Its `expire_time` is that of the secret.

    Raises:
        KeyInvalidError: for every other case, after the same steps, so that time tells nothing
        either.
    """
    key = await store.find_key(key_id) or _NOBODYS
    is_newest = hmac.compare_digest(key.secret_hash, secret_hash)
    is_old = hmac.compare_digest(key.old_secret_hash or _NO_HASH, secret_hash)
    if not (is_newest or (is_old and key.old_secret_hash)) or key.revoked:
        raise KeyInvalidError
    used, ends = key.last_used_time, key.expire_time
    if not is_newest:
        used, ends = key.old_secret_last_used_time, _earlier(ends, key.old_secret_expire_time)
    now = clock.now()
    if ends is not None and ends <= now:
        raise KeyInvalidError
    if used is None or (now - used).total_seconds() >= USE_NOTED_SECONDS:
        await store.note_use(key_id, secret_hash, now)
    return replace(key, expire_time=ends)


def _earlier(
    one: datetime.datetime | None, other: datetime.datetime | None
) -> datetime.datetime | None:
    return min((time for time in (one, other) if time is not None), default=None)
