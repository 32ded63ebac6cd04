"""Creating and changing the endpoints of webhooks."""

import base64
import dataclasses
import secrets
from collections.abc import Sequence

from services.gateway.core.errors import EndpointNotFoundError, FieldInvalidError
from services.gateway.core.ids import new_id
from services.gateway.core.ports import Clock, WebhookStore
from services.gateway.core.webhook import (
    ENDPOINT_ID,
    EVENT_TYPES,
    NAME_CHARACTERS_MAX,
    OLD_SECRET_KEPT,
    Endpoint,
)

_SECRET_BYTES = 32


async def create_endpoint(
    store: WebhookStore,
    clock: Clock,
    *,
    tenant: str,
    name: str,
    url: str,
    event_types: Sequence[str],
) -> Endpoint:
    """Adds an endpoint with a new secret. The URL has been checked by whoever will call it.

    Raises:
        FieldInvalidError: the name or an event type is not what it must be.
        QuotaExceededError: the tenant has too many.
    """
    now = clock.now()
    endpoint = Endpoint(
        endpoint_id=new_id(ENDPOINT_ID, now),
        tenant=tenant,
        name=_check_name(name),
        url=url,
        event_types=check_event_types(event_types),
        secret=_new_secret(),
        create_time=now,
        update_time=now,
    )
    await store.add_endpoint(endpoint)
    return endpoint


async def find_endpoint(store: WebhookStore, tenant: str, endpoint_id: str) -> Endpoint:
    """Returns an endpoint.

    Raises:
        EndpointNotFoundError: the tenant has no such endpoint.
    """
    endpoint = await store.find_endpoint(tenant, endpoint_id)
    if endpoint is None:
        raise EndpointNotFoundError(endpoint_id)
    return endpoint


async def update_endpoint(
    store: WebhookStore,
    clock: Clock,
    *,
    tenant: str,
    endpoint_id: str,
    name: str | None,
    url: str | None,
    event_types: Sequence[str] | None,
) -> Endpoint:
    """Changes what is given. One that answered 410 is tried again from then on.

    Raises:
        EndpointNotFoundError: the tenant has no such endpoint.
        FieldInvalidError: the name or an event type is not what it must be.
    """
    known = await find_endpoint(store, tenant, endpoint_id)
    changed = dataclasses.replace(
        known,
        name=known.name if name is None else _check_name(name),
        url=known.url if url is None else url,
        event_types=known.event_types if event_types is None else check_event_types(event_types),
        disabled=False,
    )
    if changed == known:
        return known
    return await _write(store, dataclasses.replace(changed, update_time=clock.now()))


async def rotate_secret(
    store: WebhookStore, clock: Clock, *, tenant: str, endpoint_id: str, keep_old: bool
) -> Endpoint:
    """Gives the endpoint a new secret; the old one may sign beside it for a day.

    Raises:
        EndpointNotFoundError: the tenant has no such endpoint.
    """
    known, now = await find_endpoint(store, tenant, endpoint_id), clock.now()
    changed = dataclasses.replace(
        known,
        secret=_new_secret(),
        old_secret=known.secret if keep_old else None,
        old_secret_expire_time=now + OLD_SECRET_KEPT if keep_old else None,
        update_time=now,
    )
    return await _write(store, changed)


def check_event_types(event_types: Sequence[str]) -> tuple[str, ...]:
    """Returns the types in their order, each once.

    Raises:
        FieldInvalidError: there are none, or one is unknown.
    """
    if not event_types or not set(event_types) <= set(EVENT_TYPES):
        raise FieldInvalidError("event_types", f"one or more of {', '.join(EVENT_TYPES)}")
    return tuple(kind for kind in EVENT_TYPES if kind in event_types)


def _check_name(name: str) -> str:
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        raise FieldInvalidError("name", f"1 to {NAME_CHARACTERS_MAX} characters")
    return name


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


async def _write(store: WebhookStore, endpoint: Endpoint) -> Endpoint:
    if not await store.update_endpoint(endpoint):
        raise EndpointNotFoundError(endpoint.endpoint_id)
    return endpoint
