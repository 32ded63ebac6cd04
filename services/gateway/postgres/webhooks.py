"""Endpoints of webhooks and deliveries in PostgreSQL."""

import datetime

import asyncpg

from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE, Database
from services.gateway.core.errors import DeliveryNotFoundError, QuotaExceededError
from services.gateway.core.webhook import ENDPOINTS_MAX, Delivery, DeliveryState, Endpoint
from services.gateway.postgres.queries import SQL


class PostgresWebhookStore:
    """The webhook store on a database bound to the gateway's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_endpoint(self, endpoint: Endpoint) -> None:
        """Adds an endpoint."""
        async with self._database.begin(endpoint.tenant) as connection:
            await connection.execute(SQL["lock_tenant"], endpoint.tenant)
            if await connection.fetchval(SQL["count_endpoints"], endpoint.tenant) >= ENDPOINTS_MAX:
                raise QuotaExceededError("webhook endpoints", ENDPOINTS_MAX)
            await connection.execute(
                SQL["add_endpoint"],
                endpoint.endpoint_id,
                endpoint.tenant,
                endpoint.name,
                endpoint.url,
                endpoint.event_types,
                endpoint.secret,
                endpoint.old_secret,
                endpoint.old_secret_expire_time,
                endpoint.create_time,
                endpoint.update_time,
                endpoint.disabled,
            )

    async def find_endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Returns an endpoint."""
        row = await self._database.of(tenant).fetchrow(SQL["find_endpoint"], tenant, endpoint_id)
        return None if row is None else _endpoint(row)

    async def list_endpoints(self, tenant: str, *, after: str, limit: int) -> list[Endpoint]:
        """Returns endpoints made before one, newest first."""
        rows = await self._database.of(tenant).fetch(SQL["list_endpoints"], tenant, after, limit)
        return [_endpoint(row) for row in rows]

    async def update_endpoint(self, endpoint: Endpoint) -> bool:
        """Writes an endpoint."""
        found = await self._database.of(endpoint.tenant).fetchval(
            SQL["update_endpoint"],
            endpoint.tenant,
            endpoint.endpoint_id,
            endpoint.name,
            endpoint.url,
            endpoint.event_types,
            endpoint.secret,
            endpoint.old_secret,
            endpoint.old_secret_expire_time,
            endpoint.update_time,
            endpoint.disabled,
        )
        return bool(found)

    async def delete_endpoint(self, tenant: str, endpoint_id: str) -> bool:
        """Removes an endpoint and what is on its way to it."""
        return bool(
            await self._database.of(tenant).fetchval(SQL["delete_endpoint"], tenant, endpoint_id)
        )

    async def add_deliveries(
        self, tenant: str, event_id: str, event_type: str, body: str, now: datetime.datetime
    ) -> None:
        """Puts an event on its way."""
        await self._database.of(tenant).execute(
            SQL["add_deliveries"], tenant, event_id, event_type, body, now
        )
        crashpoint("gateway.webhook.announced")

    async def hold_due(
        self, now: datetime.datetime, limit: int, held: datetime.timedelta
    ) -> list[tuple[Delivery, Endpoint]]:
        """Takes deliveries that are due."""
        async with self._database.begin(EVERYONE) as connection:
            rows = await connection.fetch(SQL["hold_due"], now, limit, now + held)
            ids = list({row["endpoint_id"] for row in rows})
            found = await connection.fetch(SQL["endpoints_of"], ids)
        if rows:
            crashpoint("gateway.webhook.held")
        endpoints = {row["endpoint_id"]: _endpoint(row) for row in found}
        return [(_delivery(row), endpoints[row["endpoint_id"]]) for row in rows]

    async def settle_delivery(
        self, delivery: Delivery, held_until: datetime.datetime | None, *, disable: bool
    ) -> None:
        """Writes what became of a delivery that was held."""
        async with self._database.begin(EVERYONE) as connection:
            await connection.execute(
                SQL["settle_delivery"],
                delivery.endpoint_id,
                delivery.event_id,
                delivery.state,
                delivery.attempts_count,
                delivery.status_code,
                delivery.failure,
                delivery.next_time,
                held_until,
            )
            if disable:
                await connection.execute(SQL["disable_endpoint"], delivery.endpoint_id)
            crashpoint("gateway.webhook.written")
        crashpoint("gateway.webhook.settled")

    async def list_deliveries(
        self, endpoint: Endpoint, *, state: str, after: str, limit: int
    ) -> list[Delivery]:
        """Returns an endpoint's deliveries made before one, newest first."""
        own, endpoint_id = self._database.of(endpoint.tenant), endpoint.endpoint_id
        before = None
        if after:
            before = await own.fetchval(SQL["find_delivery_time"], endpoint_id, after)
            if before is None:
                raise DeliveryNotFoundError(after)
        values = (endpoint_id, state, limit, after, before)
        rows = await own.fetch(SQL["list_deliveries"], *values)
        return [_delivery(row) for row in rows]

    async def replay_delivery(
        self, endpoint: Endpoint, event_id: str, now: datetime.datetime
    ) -> Delivery | None:
        """Puts a delivery on its way again."""
        values = (endpoint.endpoint_id, event_id, now)
        row = await self._database.of(endpoint.tenant).fetchrow(SQL["replay_delivery"], *values)
        return None if row is None else _delivery(row)

    async def forget_deliveries(self, before: datetime.datetime) -> None:
        """Removes deliveries that have ended and were made before a time."""
        await self._database.of(EVERYONE).execute(SQL["forget_deliveries"], before)


def _endpoint(row: asyncpg.Record) -> Endpoint:
    return Endpoint(**{**dict(row), "event_types": tuple(row["event_types"])})


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(**{**dict(row), "state": DeliveryState(row["state"])})
