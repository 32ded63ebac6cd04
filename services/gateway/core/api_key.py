"""An API key as it is stored, and what its scopes may be."""

import datetime
import re
from dataclasses import dataclass, replace

from services.gateway.core.errors import FieldInvalidError

SCOPES = frozenset(
    {
        "files:read",
        "files:write",
        "heads:read",
        "heads:write",
        "match:read",
        "outcomes:write",
        "runs:read",
        "runs:write",
        "schema:read",
        "schema:write",
        "users:read",
        "users:write",
        "webhooks:read",
        "webhooks:write",
    }
)
_TENANT = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key. Its secrets, of which a rotation leaves two, are known to its holder alone."""

    key_id: str
    secret_hash: bytes
    tenant: str
    scopes: frozenset[str]
    expire_time: datetime.datetime | None
    revoked: bool = False
    last_used_time: datetime.datetime | None = None
    """Of the newest secret."""
    old_secret_hash: bytes | None = None
    old_secret_expire_time: datetime.datetime | None = None
    old_secret_last_used_time: datetime.datetime | None = None

    def rotated(
        self, secret_hash: bytes, now: datetime.datetime, overlap: datetime.timedelta
    ) -> "ApiKey":
        """The key with a new secret.

        The one that it takes the place of stays good for the overlap. A newest secret that nobody
        has used is nobody's: it goes at once, and the one before stays what it is.
        """
        ends = now + overlap
        if self.last_used_time is None and self.old_secret_hash is not None:
            return replace(self, secret_hash=secret_hash, old_secret_expire_time=ends)
        return replace(
            self,
            secret_hash=secret_hash,
            last_used_time=None,
            old_secret_hash=self.secret_hash,
            old_secret_expire_time=ends,
            old_secret_last_used_time=self.last_used_time,
        )


def check_tenant(tenant: str) -> None:
    """Refuses a tenant id that could not stand in an event's subject."""
    if not _TENANT.fullmatch(tenant):
        raise FieldInvalidError(
            "tenant", '1 to 32 characters of a-z, 0-9 and "-", starting with a letter'
        )


def check_scopes(scopes: frozenset[str]) -> None:
    """Refuses scopes that no RPC asks for."""
    unknown = sorted(scopes - SCOPES)
    if unknown:
        raise FieldInvalidError("scopes", f"each one of {', '.join(sorted(SCOPES))}")
