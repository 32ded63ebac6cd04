"""Events out to the endpoints that want them: announced once, sent until one attempt succeeds."""

import asyncio
import dataclasses
import datetime
import hashlib
import json

from services.gateway.core.ports import Clock, WebhookSender, WebhookStore
from services.gateway.core.webhook import (
    DELIVERIES_KEPT,
    EVENT_ID,
    GONE,
    Attempt,
    Delivery,
    DeliveryState,
    Endpoint,
    next_time,
)

AT_ONCE_MAX = 16
HELD = datetime.timedelta(minutes=1)
"""For so long a delivery belongs to whoever sends it: longer than one attempt can take."""


async def announce(
    store: WebhookStore, *, tenant: str, event_type: str, subject_id: str, now: datetime.datetime
) -> None:
    """Puts an event on its way to the tenant's endpoints that want it; a repeat changes nothing."""
    # Two processes that see the same end of a job make the same event of it.
    digest = hashlib.sha256(f"{tenant} {event_type} {subject_id}".encode()).hexdigest()
    event_id = EVENT_ID + digest[:24]
    body = event_body(event_id, event_type, subject_id, now)
    await store.add_deliveries(tenant, event_id, event_type, body, now)


def event_body(event_id: str, event_type: str, subject_id: str, now: datetime.datetime) -> str:
    """The event in JSON: thin on purpose, whoever hears it reads the rest."""
    content = {
        "id": event_id,
        "object": "event",
        "created_at": int(now.timestamp()),
        "type": event_type,
        "data": {"id": subject_id},
    }
    return json.dumps(content, separators=(",", ":"))


async def deliver_due(store: WebhookStore, sender: WebhookSender, clock: Clock) -> None:
    """Sends what is due, and forgets what ended long ago."""
    while held := await store.hold_due(clock.now(), AT_ONCE_MAX, HELD):
        await asyncio.gather(*(_send(store, sender, clock, *each) for each in held))
        if len(held) < AT_ONCE_MAX:
            break
    await store.forget_deliveries(clock.now() - DELIVERIES_KEPT)


async def _send(
    store: WebhookStore, sender: WebhookSender, clock: Clock, delivery: Delivery, endpoint: Endpoint
) -> None:
    attempt = await sender.send(
        endpoint.url,
        endpoint.secrets(clock.now()),
        message_id=delivery.event_id,
        body=delivery.body,
        now=clock.now(),
    )
    gone = attempt.status_code == GONE
    done = _after(delivery, attempt, clock.now())
    await store.settle_delivery(done, delivery.next_time, disable=gone)


def _after(delivery: Delivery, attempt: Attempt, now: datetime.datetime) -> Delivery:
    """The delivery after one more attempt."""
    count, state, again = delivery.attempts_count + 1, DeliveryState.DELIVERED, None
    if not attempt.succeeded:
        again = None if attempt.status_code == GONE else next_time(count, attempt, now)
        state = DeliveryState.PENDING if again else DeliveryState.FAILED
    return dataclasses.replace(
        delivery,
        state=state,
        attempts_count=count,
        status_code=attempt.status_code,
        failure=attempt.failure,
        next_time=again,
    )
