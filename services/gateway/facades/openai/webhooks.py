"""/webhook_endpoints and /webhook_event_types.

Deliveries, which OpenAI's contract does not show, can be listed and replayed below an endpoint.
"""

from aiohttp import web

from services.gateway.core.deliver_events import event_body
from services.gateway.core.errors import (
    DeliveryNotFoundError,
    EndpointNotFoundError,
    EndpointUnreachableError,
    FieldInvalidError,
)
from services.gateway.core.ids import check_after, new_id
from services.gateway.core.manage_endpoints import (
    check_event_types,
    create_endpoint,
    find_endpoint,
    rotate_secret,
    update_endpoint,
)
from services.gateway.core.page import page_of
from services.gateway.core.ports import Clock, WebhookSender, WebhookStore
from services.gateway.core.webhook import (
    ENDPOINT_ID,
    EVENT_ID,
    EVENT_TYPES,
    Delivery,
    DeliveryState,
    Endpoint,
)
from services.gateway.facades.openai.answers import Json, answer, envelope, unix
from services.gateway.facades.requests import (
    read_body,
    read_choice,
    read_limit,
    read_optional_text,
    read_text,
    read_texts,
)
from services.gateway.http import Call, Route

PAGE_DEFAULT, PAGE_MAX = 20, 100
SAMPLE_ID = "ftjob-sample"
_FIELDS = ("name", "url", "event_types")
_HINT_CHARACTERS = 4
_ENDPOINT = "/webhook_endpoints/{endpoint_id}"


class Webhooks:
    """Endpoints and their deliveries."""

    def __init__(self, store: WebhookStore, sender: WebhookSender, clock: Clock) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock

    def routes(self) -> list[Route]:
        """What is answered here."""
        read, write = "webhooks:read", "webhooks:write"
        return [
            Route("POST", "/webhook_endpoints", write, self.create),
            Route("GET", "/webhook_endpoints", read, self.list),
            Route("GET", _ENDPOINT, read, self.retrieve),
            Route("POST", _ENDPOINT, write, self.update),
            Route("DELETE", _ENDPOINT, write, self.delete),
            Route("POST", f"{_ENDPOINT}/rotate_secret", write, self.rotate),
            Route("POST", f"{_ENDPOINT}/test", write, self.test),
            Route("GET", f"{_ENDPOINT}/deliveries", read, self.list_deliveries),
            Route("POST", f"{_ENDPOINT}/deliveries/{{event_id}}/replay", write, self.replay),
            Route("GET", "/webhook_event_types", read, self.list_event_types),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, _FIELDS)
        url = read_text(body, "url")
        self._sender.check_url(url)
        endpoint = await create_endpoint(
            self._store,
            self._clock,
            tenant=call.tenant,
            name=read_text(body, "name"),
            url=url,
            event_types=read_texts(body, "event_types"),
        )
        return answer(_endpoint_with_secret(endpoint))

    async def list(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, PAGE_DEFAULT, PAGE_MAX)
        after = call.request.query.get("after", "")
        check_after(ENDPOINT_ID, after)
        found = await self._store.list_endpoints(call.tenant, after=after, limit=limit + 1)
        return answer(envelope(page_of(found, limit), _endpoint, ids=True))

    async def retrieve(self, call: Call) -> web.StreamResponse:
        return answer(_endpoint(await self._find(call)))

    async def update(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, _FIELDS)
        url = read_optional_text(body, "url")
        if url is not None:
            self._sender.check_url(url)
        kinds = body.get("event_types")
        endpoint = await update_endpoint(
            self._store,
            self._clock,
            tenant=call.tenant,
            endpoint_id=call.request.match_info["endpoint_id"],
            name=read_optional_text(body, "name"),
            url=url,
            event_types=None if kinds is None else read_texts(body, "event_types"),
        )
        return answer(_endpoint(endpoint))

    async def delete(self, call: Call) -> web.StreamResponse:
        endpoint_id = call.request.match_info["endpoint_id"]
        if not await self._store.delete_endpoint(call.tenant, endpoint_id):
            raise EndpointNotFoundError(endpoint_id)
        return answer({"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})

    async def rotate(self, call: Call) -> web.StreamResponse:
        name = "keep_old_secret_active_for_24_hours"
        keep_old = (await read_body(call.request, (name,))).get(name, False)
        if not isinstance(keep_old, bool):
            raise FieldInvalidError(name, "true or false")
        endpoint = await rotate_secret(
            self._store,
            self._clock,
            tenant=call.tenant,
            endpoint_id=call.request.match_info["endpoint_id"],
            keep_old=keep_old,
        )
        return answer(_endpoint_with_secret(endpoint))

    async def test(self, call: Call) -> web.StreamResponse:
        """Sends a sample at once; it is kept nowhere and not tried again."""
        body = await read_body(call.request, ("event_type",))
        (kind,) = check_event_types([read_text(body, "event_type")])
        endpoint, now = await self._find(call), self._clock.now()
        event_id = new_id(EVENT_ID, now)
        attempt = await self._sender.send(
            endpoint.url,
            endpoint.secrets(now),
            message_id=event_id,
            body=event_body(event_id, kind, SAMPLE_ID, now),
            now=now,
        )
        if attempt.status_code is None:
            raise EndpointUnreachableError(attempt.failure)
        content = {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": endpoint.endpoint_id,
            "event_type": kind,
            "status_code": attempt.status_code,
            "success": True,
        }
        return answer(content)

    async def list_event_types(self, _call: Call) -> web.StreamResponse:
        return answer({"object": "list", "data": list(EVENT_TYPES)})

    async def list_deliveries(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, PAGE_DEFAULT, PAGE_MAX)
        states = ("", *DeliveryState)
        state = read_choice(call.request, "status", states, "")
        after = call.request.query.get("after", "")
        endpoint = await self._find(call)
        found = await self._store.list_deliveries(
            endpoint, state=state, after=after, limit=limit + 1
        )
        return answer(envelope(page_of(found, limit), _delivery, ids=True))

    async def replay(self, call: Call) -> web.StreamResponse:
        endpoint, event_id = await self._find(call), call.request.match_info["event_id"]
        delivery = await self._store.replay_delivery(endpoint, event_id, self._clock.now())
        if delivery is None:
            raise DeliveryNotFoundError(event_id)
        return answer(_delivery(delivery))

    async def _find(self, call: Call) -> Endpoint:
        endpoint_id = call.request.match_info["endpoint_id"]
        return await find_endpoint(self._store, call.tenant, endpoint_id)


def _endpoint(endpoint: Endpoint) -> Json:
    return {
        "id": endpoint.endpoint_id,
        "object": "webhook_endpoint",
        "created_at": unix(endpoint.create_time),
        "updated_at": unix(endpoint.update_time),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "signing_secret_hint": f"whsec_…{endpoint.secret[-_HINT_CHARACTERS:]}",
    }


def _endpoint_with_secret(endpoint: Endpoint) -> Json:
    """Twice in its life a secret is told: when it is made."""
    return {**_endpoint(endpoint), "signing_secret": endpoint.secret}


def _delivery(delivery: Delivery) -> Json:
    return {
        "id": delivery.event_id,
        "object": "webhook_endpoint.delivery",
        "event_type": delivery.event_type,
        "created_at": unix(delivery.create_time),
        "status": delivery.state,
        "attempts": delivery.attempts_count,
        "status_code": delivery.status_code,
        "failure": delivery.failure or None,
        "next_attempt_at": unix(delivery.next_time),
    }
