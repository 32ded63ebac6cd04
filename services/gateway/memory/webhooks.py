"""Endpoints of webhooks and deliveries in dictionaries, for tests."""

import dataclasses
import datetime
from collections import Counter

from services.gateway.core.errors import DeliveryNotFoundError, QuotaExceededError
from services.gateway.core.webhook import ENDPOINTS_MAX, Delivery, DeliveryState, Endpoint

_Key = tuple[str, str]


class MemoryWebhookStore:
    """The webhook store of a test."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._deliveries: dict[_Key, Delivery] = {}

    async def add_endpoint(self, endpoint: Endpoint) -> None:
        """Adds an endpoint."""
        if len(await self.list_endpoints(endpoint.tenant, after="", limit=99)) >= ENDPOINTS_MAX:
            raise QuotaExceededError("webhook endpoints", ENDPOINTS_MAX)
        self._endpoints[endpoint.endpoint_id] = endpoint

    async def find_endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Returns an endpoint."""
        endpoint = self._endpoints.get(endpoint_id)
        return endpoint if endpoint and endpoint.tenant == tenant else None

    async def list_endpoints(self, tenant: str, *, after: str, limit: int) -> list[Endpoint]:
        """Returns endpoints made before one, newest first."""
        found = [
            endpoint
            for endpoint_id, endpoint in self._endpoints.items()
            if endpoint.tenant == tenant and (not after or endpoint_id < after)
        ]
        return sorted(found, key=lambda each: each.endpoint_id, reverse=True)[:limit]

    async def update_endpoint(self, endpoint: Endpoint) -> bool:
        """Writes an endpoint."""
        if not await self.find_endpoint(endpoint.tenant, endpoint.endpoint_id):
            return False
        self._endpoints[endpoint.endpoint_id] = endpoint
        return True

    async def delete_endpoint(self, tenant: str, endpoint_id: str) -> bool:
        """Removes an endpoint and what is on its way to it."""
        if not await self.find_endpoint(tenant, endpoint_id):
            return False
        del self._endpoints[endpoint_id]
        for key in [key for key in self._deliveries if key[0] == endpoint_id]:
            del self._deliveries[key]
        return True

    async def add_deliveries(
        self, tenant: str, event_id: str, event_type: str, body: str, now: datetime.datetime
    ) -> None:
        """Puts an event on its way."""
        for endpoint_id, endpoint in self._endpoints.items():
            wanted = endpoint.tenant == tenant and event_type in endpoint.event_types
            if wanted and not endpoint.disabled:
                delivery = Delivery(
                    event_id=event_id,
                    endpoint_id=endpoint_id,
                    event_type=event_type,
                    body=body,
                    create_time=now,
                    next_time=now,
                )
                self._deliveries.setdefault((endpoint_id, event_id), delivery)

    async def hold_due(
        self, now: datetime.datetime, limit: int, held: datetime.timedelta
    ) -> list[tuple[Delivery, Endpoint]]:
        """Takes deliveries that are due."""
        due = [
            (delivery.next_time, key)
            for key, delivery in self._deliveries.items()
            if delivery.next_time is not None
            and delivery.next_time <= now
            and not self._endpoints[delivery.endpoint_id].disabled
        ]
        turns: Counter[str] = Counter()
        by_turns: list[tuple[int, tuple[str, str]]] = []
        for _, key in sorted(due):
            turns[self._endpoints[key[0]].tenant] += 1
            by_turns.append((turns[self._endpoints[key[0]].tenant], key))
        taken: list[tuple[Delivery, Endpoint]] = []
        for _, key in sorted(by_turns, key=lambda each: each[0])[:limit]:
            delivery = dataclasses.replace(self._deliveries[key], next_time=now + held)
            self._deliveries[key] = delivery
            taken.append((delivery, self._endpoints[delivery.endpoint_id]))
        return taken

    async def settle_delivery(
        self, delivery: Delivery, held_until: datetime.datetime | None, *, disable: bool
    ) -> None:
        """Writes what became of a delivery that was held."""
        key = (delivery.endpoint_id, delivery.event_id)
        known = self._deliveries.get(key)
        if known is not None and known.next_time == held_until:
            self._deliveries[key] = delivery
        endpoint = self._endpoints.get(delivery.endpoint_id)
        if disable and endpoint is not None:
            disabled = dataclasses.replace(endpoint, disabled=True)
            self._endpoints[endpoint.endpoint_id] = disabled

    async def list_deliveries(
        self, endpoint: Endpoint, *, state: str, after: str, limit: int
    ) -> list[Delivery]:
        """Returns an endpoint's deliveries made before one, newest first."""
        mine = (
            each for each in self._deliveries.values() if each.endpoint_id == endpoint.endpoint_id
        )
        found = sorted(mine, key=lambda each: (each.create_time, each.event_id), reverse=True)
        ids = [each.event_id for each in found]
        if after and after not in ids:
            raise DeliveryNotFoundError(after)
        older = found[ids.index(after) + 1 :] if after else found
        return [each for each in older if state in ("", each.state)][:limit]

    async def replay_delivery(
        self, endpoint: Endpoint, event_id: str, now: datetime.datetime
    ) -> Delivery | None:
        """Puts a delivery on its way again."""
        key = (endpoint.endpoint_id, event_id)
        known = self._deliveries.get(key)
        if known is None:
            return None
        state = DeliveryState.PENDING
        again = dataclasses.replace(known, state=state, attempts_count=0, next_time=now)
        self._deliveries[key] = again
        return again

    async def forget_deliveries(self, before: datetime.datetime) -> None:
        """Removes deliveries that have ended and were made before a time."""
        for key, delivery in list(self._deliveries.items()):
            if delivery.next_time is None and delivery.create_time < before:
                del self._deliveries[key]
