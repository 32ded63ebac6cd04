"""The transactional outbox: an event is a row of the transaction that made it true.

The relay publishes rows in the order of their ids and marks them once the bus has acknowledged. It
may publish a row twice, never skip one: rows are found by their state, not by "id above the last",
which would miss a transaction that commits late.
"""

import asyncio
import datetime
import json
import math
import time
import uuid
from dataclasses import dataclass

import asyncpg
import structlog
from prometheus_client import Gauge

from services.chassis.bus import EVENT_BYTES_MAX, Bus, PublishError
from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE, IDLE_SECONDS_MAX, Connection, Database

BATCH_ROWS_MAX = 100
BATCH_SECONDS_MAX = IDLE_SECONDS_MAX / 2
"""The server ends a transaction that stands idle: a bus that is slow would have the same events
published again and again, and none marked."""
POLL_SECONDS = 1.0
RETRY_SECONDS = 1.0
PRUNE_SECONDS = 3600.0
KEEP_DAYS = 30  # longer than the stream keeps its messages, so that the stream can be rebuilt
RELAY_LOCK = "select pg_advisory_xact_lock(hashtext(current_schema() || '.outbox'))"
"""Held by whoever publishes, until the end of the transaction."""
_TRY_RELAY_LOCK = RELAY_LOCK.replace("pg_advisory", "pg_try_advisory")
_NEXT_SEQUENCE = """
insert into outbox_sequences (about, tenant, last) values ($1, $2, 1)
on conflict (about) do update set last = outbox_sequences.last + 1 returning last
"""

OLDEST_SECONDS = Gauge("trine_outbox_oldest_seconds", "Age of the oldest event not yet published.")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event in the terms of CloudEvents 1.0."""

    type: str
    source: str
    subject: str
    """The resource that the event is about."""
    tenant: str
    domain: str
    time: datetime.datetime
    data: dict[str, object]

    @property
    def bus_subject(self) -> str:
        """Where the event is published."""
        return f"{self.type}.{self.tenant}.{self.domain}"

    @property
    def about(self) -> str:
        """The resource among all of the mesh."""
        return f"{self.tenant}/{self.domain}/{self.subject}"

    def to_json(self, event_id: str, sequence: int) -> str:
        """The event in the structured mode of the JSON event format.

        `sequence` is that of the extension of this name: events of one resource are numbered from
        1 on, in digits that sort as they count.
        """
        return json.dumps(
            {
                "specversion": "1.0",
                "id": event_id,
                "type": self.type,
                "source": self.source,
                "subject": self.subject,
                "time": self.time.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z"),
                "sequence": f"{sequence:010d}",
                "datacontenttype": "application/json",
                "data": self.data,
            },
            separators=(",", ":"),
            ensure_ascii=False,
        )


async def add_to_outbox(connection: Connection, event: CloudEvent) -> None:
    """Writes an event in the caller's transaction."""
    event_id = uuid.uuid4()
    sequence = await connection.fetchval(_NEXT_SEQUENCE, event.about, event.tenant)
    payload = event.to_json(str(event_id), sequence)
    if len(payload.encode()) > EVENT_BYTES_MAX:
        # The bus would refuse it for ever, and everything behind it would wait.
        raise ValueError(f"an event of the type {event.type} is too large")
    await connection.execute(
        "insert into outbox (event_id, about, sequence, tenant, subject, payload) "
        "values ($1, $2, $3, $4, $5, $6)",
        event_id,
        event.about,
        sequence,
        event.tenant,
        event.bus_subject,
        payload,
    )


class OutboxRelay:
    """Publishes what stands in the outbox. Any number of relays may run; one at a time works."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Says that there is something to publish: the next pass need not wait for its time."""
        self._wake.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        pruned_at = -math.inf
        while True:
            self._wake.clear()
            try:
                if time.monotonic() - pruned_at > PRUNE_SECONDS:
                    pruned_at = time.monotonic()
                    await self.prune()
                published = await self.publish_batch()
            except Exception:
                _log.exception("outbox_failed")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if published < BATCH_ROWS_MAX:
                await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def publish_batch(self) -> int:
        """Publishes the oldest events and returns how many."""
        async with self._database.begin(EVERYONE) as connection:
            if not await connection.fetchval(_TRY_RELAY_LOCK):
                return 0
            rows = await connection.fetch(
                "select id, event_id, epoch, subject, payload, "
                "extract(epoch from clock_timestamp() - create_time) as age_seconds "
                "from outbox where publish_time is null order by id limit $1",
                BATCH_ROWS_MAX,
            )
            if rows:
                crashpoint("outbox.read")
            OLDEST_SECONDS.set(rows[0]["age_seconds"] if rows else 0)
            published = await self._publish(rows)
            await connection.execute(
                "update outbox set publish_time = clock_timestamp() where id = any($1::bigint[])",
                published,
            )
            if published:
                crashpoint("outbox.marked")
        return len(published)

    async def prune(self) -> None:
        """Forgets events published so long ago that no stream holds them any more."""
        await self._database.of(EVERYONE).execute(
            "delete from outbox where publish_time < now() - make_interval(days => $1)", KEEP_DAYS
        )

    async def _publish(self, rows: list) -> list[int]:  # type: ignore[type-arg]  # records
        until = time.monotonic() + BATCH_SECONDS_MAX
        published: list[int] = []
        for row in rows:
            try:
                await self._bus.publish(row["subject"], row["payload"].encode(), _message_id(row))
            except PublishError as error:
                _log.warning("publish_failed", error=str(error))
                break  # in order: the rest waits for this one
            crashpoint("outbox.published")
            published.append(row["id"])
            if time.monotonic() >= until:
                break
        return published


def _message_id(row: asyncpg.Record) -> str:
    """The event's id, and in a later epoch one that the bus has not had yet."""
    return f"{row['event_id']}.{row['epoch']}" if row["epoch"] else str(row["event_id"])
