"""Webhooks: endpoints that want to hear of events, and what is on its way to them.

Deliveries follow Standard Webhooks 1.0.0: at least once, the same id on every attempt, in no
promised order; only 2xx is success, 410 means that nobody wants them any more.
"""

import datetime
import random
from dataclasses import dataclass, field
from enum import StrEnum

ENDPOINT_ID = "we_"
EVENT_ID = "evt_"

EVENT_TYPES = (
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
)

ENDPOINTS_MAX = 20
"""A tenant's."""
NAME_CHARACTERS_MAX = 128
URL_CHARACTERS_MAX = 2_048
OLD_SECRET_KEPT = datetime.timedelta(hours=24)
DELIVERIES_KEPT = datetime.timedelta(days=30)
"""For so long after its end a delivery can be looked at and replayed."""

PAUSES_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between attempts, as the standard proposes: ten attempts in about three days."""
JITTER = 0.2
RETRY_AFTER_SECONDS_MAX = 86_400
GONE = 410
_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a tenant wants to hear of some kinds of events."""

    endpoint_id: str
    tenant: str
    name: str
    url: str
    event_types: tuple[str, ...]
    secret: str = field(repr=False)
    """"whsec_" and base64: what deliveries are signed with."""
    old_secret: str | None = field(default=None, repr=False)
    """The one before: signs as well until its time is over."""
    old_secret_expire_time: datetime.datetime | None = None
    create_time: datetime.datetime
    update_time: datetime.datetime
    disabled: bool = False
    """It answered 410: nothing is sent until somebody updates it."""

    def secrets(self, now: datetime.datetime) -> list[str]:
        """The secrets that sign at this moment."""
        until = self.old_secret_expire_time
        old = self.old_secret if until is not None and until > now else None
        return [self.secret] if old is None else [self.secret, old]


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint."""

    event_id: str
    endpoint_id: str
    event_type: str
    body: str
    state: DeliveryState = DeliveryState.PENDING
    attempts_count: int = 0
    status_code: int | None = None
    """What the endpoint answered last."""
    failure: str = ""
    """Why there was no answer, in a few words."""
    create_time: datetime.datetime
    next_time: datetime.datetime | None
    """When it is tried again; None once it has ended."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of sending once."""

    status_code: int | None
    failure: str = ""
    retry_after_seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """2xx alone: a redirect is not followed and is no success."""
        return self.status_code is not None and 200 <= self.status_code < 300


def next_time(
    attempts_count: int, attempt: Attempt, now: datetime.datetime
) -> datetime.datetime | None:
    """When to try again after so many attempts; None if that was the last."""
    if attempts_count > len(PAUSES_SECONDS):
        return None
    pause = PAUSES_SECONDS[attempts_count - 1] * _RANDOM.uniform(1, 1 + JITTER)
    asked = min(attempt.retry_after_seconds, RETRY_AFTER_SECONDS_MAX)
    return now + datetime.timedelta(seconds=max(pause, asked))
