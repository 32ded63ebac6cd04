"""The stream as a copy of the outbox: whether it is one, and how it is made anew.

NATS is fed from PostgreSQL and may be lost at any time: what the outbox holds can be published
again. An id comes only once within two minutes on a stream, even when the stream has been emptied
since; so events that are published again bear ids of a new epoch on the bus. Their own ids, by
which consumers know them, stay as they are.
"""

import asyncio
import json

import structlog

from services.chassis.bus import EVENTS_MAX_AGE_SECONDS, KeepingBus, syncs_always
from services.chassis.database import EVERYONE, Connection, Database
from services.chassis.invariants import Rule, UncheckableError, look
from services.chassis.outbox import RELAY_LOCK

SETTLE_SECONDS = 5.0
"""What was published so long ago is on the stream for whoever looks now."""
MARGIN_SECONDS = 24 * 3600.0
"""What is that close to its end on the stream is not looked for."""
LOOK_SECONDS = 10.0
REBUILT_SECONDS = 60.0
EVENTS_MAX = 20_000
SUBJECTS_MAX = 100

_log = structlog.get_logger()

_NEWEST = """
select distinct on (subject) id, event_id, subject from (
    select id, event_id, subject from outbox
    where
        publish_time < clock_timestamp() - make_interval(secs => $1)
        and publish_time > clock_timestamp() - make_interval(secs => $2)
    order by id desc limit $3
) as newest order by subject, id desc limit $4
"""
_COUNT = """
select count(*) from (
    select from outbox
    where
        publish_time < clock_timestamp() - make_interval(secs => $1)
        and publish_time > clock_timestamp() - make_interval(secs => $2)
    limit $3
) as published
"""
_PUBLISH_AGAIN = """
with again as (
    update outbox set publish_time = null, epoch = epoch + 1
    where create_time > clock_timestamp() - make_interval(secs => $1) returning 1
)

select count(*) from again
"""


def syncs_rule(monitor_url: str) -> Rule:
    """NATS acknowledges what is on disk; its monitoring address says so."""

    async def find() -> list[str]:
        if not monitor_url:
            raise UncheckableError("TRINE_NATS_MONITOR_URL is not set")
        return [] if await syncs_always(monitor_url) else ["sync_interval"]

    return Rule("I1", "NATS has on disk what it has acknowledged.", find)


def stream_rule(database: Database, bus: KeepingBus) -> Rule:
    """The stream holds what the outbox has published and it has not yet outlived."""

    async def find() -> list[str]:
        gone = await _count_gone(database, bus)
        if gone:
            return [f"{gone} events are gone"]
        newest = await look(database, _NEWEST, *_span(), SUBJECTS_MAX)
        return [row["subject"] for row in newest if not await _reaches(row["subject"], row["id"])]

    async def _reaches(subject: str, row_id: int) -> bool:
        payload = await bus.last(subject)
        if payload is None:
            return False
        query = "select from outbox where event_id = $1::text::uuid and id >= $2"
        return bool(await look(database, query, json.loads(payload)["id"], row_id))

    return Rule("I14", "The stream holds whatever the outbox has published to it.", find)


async def rebuild_stream(database: Database, bus: KeepingBus) -> int:
    """Empties the stream and has the relay publish again what it should hold; returns how many.

    The relay waits meanwhile. Broken off, it can be repeated.
    """
    async with database.begin(EVERYONE) as connection:
        await connection.execute(RELAY_LOCK)
        return await _rebuild(connection, bus)


async def keep_stream(database: Database, bus: KeepingBus) -> None:
    """Looks again and again whether the stream has lost events, and rebuilds it if so.

    One that goes on losing them is not rebuilt without a pause: consumers hear all of it each time.
    """
    while True:
        is_rebuilt = False
        try:
            is_rebuilt = await mend_stream(database, bus)
        except Exception as error:  # whatever it is, as NATS being away: the next look comes
            _log.warning("stream_not_looked_at", error=repr(error))
        await asyncio.sleep(REBUILT_SECONDS if is_rebuilt else LOOK_SECONDS)


async def mend_stream(database: Database, bus: KeepingBus) -> bool:
    """Rebuilds a stream that has lost events for certain; says whether it had."""
    if not await _count_gone(database, bus):
        return False
    async with database.begin(EVERYONE) as connection:
        await connection.execute(RELAY_LOCK)
        gone = await _count_gone(database, bus)  # another may have been faster
        if gone:
            _log.error("stream_rebuilt", gone=gone, again=await _rebuild(connection, bus))
    return gone > 0


async def _rebuild(connection: Connection, bus: KeepingBus) -> int:
    await bus.purge()
    count: int = await connection.fetchval(_PUBLISH_AGAIN, float(EVENTS_MAX_AGE_SECONDS))
    return count


async def _count_gone(database: Database, bus: KeepingBus) -> int:
    """How many events the stream lacks at least; 0 near its size, where it forgets by itself."""
    kept = await bus.kept()
    if not kept.complete or kept.events_count >= EVENTS_MAX:
        return 0  # nobody need count
    ((published,),) = await look(database, _COUNT, *_span())
    kept = await bus.kept()  # later than what was counted, or what came meanwhile would be missing
    return max(0, int(published) - kept.events_count)


def _span() -> tuple[float, float, int]:
    """Between which ages published events are looked for, and how many."""
    return (SETTLE_SECONDS, EVENTS_MAX_AGE_SECONDS - MARGIN_SECONDS, EVENTS_MAX)
