"""The outbox over PostgreSQL and every bus: in order, never skipped, dropped when repeated."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis import outbox as outbox_module
from services.chassis.bus import EVENT_BYTES_MAX
from services.chassis.database import EVERYONE, Database, migrations_of, open_database
from services.chassis.outbox import KEEP_DAYS, CloudEvent, OutboxRelay, add_to_outbox
from tests.support.buses import BusSetting, FaultyBus, until
from tests.support.faults import DeliberateError
from tests.support.infrastructure import Servers

TIME = datetime.datetime(2026, 5, 17, 10, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


@pytest.fixture
async def tables(servers: Servers, schema: str, tmp_path: Path) -> AsyncIterator[Database]:
    """A schema with nothing but an outbox."""
    migrations = migrations_of(tmp_path, "outbox")
    async with servers.migrated(schema, migrations) as opened:
        yield opened


def event_of(number: int, **data: object) -> CloudEvent:
    return CloudEvent(
        type="trine.events.v1.run.queued",
        source="/trine/tests",
        subject=f"tr_{number}",
        tenant="acme",
        domain=f"d{number}",
        time=TIME,
        data={"number": number, **data},
    )


async def add(tables: Database, *numbers: int) -> None:
    """Adds events, each in a transaction of its own."""
    for number in numbers:
        async with tables.begin("acme") as connection:
            await add_to_outbox(connection, event_of(number))


async def numbers_kept(setting: BusSetting) -> list[int]:
    return [json.loads(payload)["data"]["number"] for _, payload in await setting.kept()]


async def waiting_count(tables: Database) -> int:
    count: int = await tables.of(EVERYONE).fetchval(
        "select count(*) from outbox where publish_time is null"
    )
    return count


async def until_kept(setting: BusSetting, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await setting.kept()) < count:  # noqa: ASYNC110  # a server cannot set an event
            await asyncio.sleep(0.005)


async def test_events_are_published_in_their_order_and_once(
    tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, *range(7))
    bus = FaultyBus(bus_setting.bus)
    relay = OutboxRelay(tables, bus)
    assert await relay.publish_batch() == 7
    assert await relay.publish_batch() == 0
    assert await numbers_kept(bus_setting) == list(range(7))
    assert len(bus.attempts) == 7
    assert await waiting_count(tables) == 0


async def test_an_event_is_a_cloudevent_under_the_id_of_its_message(
    tables: Database, bus_setting: BusSetting
) -> None:
    async with tables.begin("acme") as connection:
        await add_to_outbox(connection, event_of(1, text='naïve "🙂"\n\0'))
    bus = FaultyBus(bus_setting.bus)
    await OutboxRelay(tables, bus).publish_batch()
    ((subject, payload),) = await bus_setting.kept()
    assert subject == "trine.events.v1.run.queued.acme.d1"
    assert json.loads(payload) == {
        "specversion": "1.0",
        "id": bus.attempts[0],
        "type": "trine.events.v1.run.queued",
        "source": "/trine/tests",
        "subject": "tr_1",
        "time": "2026-05-17T08:00:00Z",
        "sequence": "0000000001",
        "datacontenttype": "application/json",
        "data": {"number": 1, "text": 'naïve "🙂"\n\0'},
    }


async def test_an_event_of_a_transaction_that_fails_is_never_published(
    tables: Database, bus_setting: BusSetting
) -> None:
    async def fail() -> None:
        async with tables.begin("acme") as connection:
            await add_to_outbox(connection, event_of(1))
            raise DeliberateError

    with pytest.raises(DeliberateError):
        await fail()
    await add(tables, 2)
    assert await OutboxRelay(tables, bus_setting.bus).publish_batch() == 1
    assert await numbers_kept(bus_setting) == [2]


async def test_an_event_is_not_published_before_its_transaction_commits(
    tables: Database, bus_setting: BusSetting
) -> None:
    relay = OutboxRelay(tables, bus_setting.bus)
    async with tables.begin("acme") as connection:
        await add_to_outbox(connection, event_of(1))
        assert await relay.publish_batch() == 0
    assert await relay.publish_batch() == 1


async def test_a_transaction_that_commits_late_is_not_skipped(
    tables: Database, bus_setting: BusSetting
) -> None:
    relay = OutboxRelay(tables, bus_setting.bus)
    async with tables.begin("acme") as connection:
        await add_to_outbox(connection, event_of(1))
        await add(tables, 2, 3)
        assert await relay.publish_batch() == 2
    assert await relay.publish_batch() == 1
    assert await numbers_kept(bus_setting) == [2, 3, 1]
    ids = [
        row["id"]
        for row in await tables.of(EVERYONE).fetch(
            "select id from outbox order by publish_time, id"
        )
    ]
    assert ids[-1] == min(ids), "the late one has the lowest id, or nothing was shown"


async def test_a_refused_event_holds_up_those_after_it_until_it_is_taken(
    tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, *range(6))
    bus = FaultyBus(bus_setting.bus)
    relay = OutboxRelay(tables, bus)
    bus.refused_subjects = {event_of(3).bus_subject}
    assert await relay.publish_batch() == 3
    assert await relay.publish_batch() == 0
    assert await numbers_kept(bus_setting) == [0, 1, 2]
    assert len(bus.attempts) == 5, "nothing behind the refused event may be tried"
    bus.refused_subjects = set()
    await add(tables, 6)
    assert await relay.publish_batch() == 4
    assert await numbers_kept(bus_setting) == list(range(7))


async def test_an_event_too_large_for_the_bus_does_not_hold_up_others_for_ever(
    tables: Database, bus_setting: BusSetting
) -> None:
    try:
        async with tables.begin("acme") as connection:
            await add_to_outbox(connection, event_of(1, text="x" * EVENT_BYTES_MAX))
    except ValueError:
        pass  # refused before it became true is as good as set aside later
    await add(tables, 2)
    relay = OutboxRelay(tables, bus_setting.bus)
    for _ in range(3):
        await relay.publish_batch()
    assert 2 in await numbers_kept(bus_setting)


async def test_of_a_slow_bus_what_was_published_is_marked_before_the_server_loses_patience(
    tables: Database, bus_setting: BusSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_SECONDS_MAX", 0.0)
    await add(tables, 1, 2)
    relay = OutboxRelay(tables, bus_setting.bus)
    for waiting in (1, 0):
        assert await relay.publish_batch() == 1
        assert await waiting_count(tables) == waiting
    assert await numbers_kept(bus_setting) == [1, 2]


async def test_two_relays_at_once_publish_each_event_once(
    servers: Servers, schema: str, tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, *range(30))
    bus = FaultyBus(bus_setting.bus)
    async with open_database(servers.service_dsn, schema, []) as other:
        relays = [OutboxRelay(tables, bus), OutboxRelay(other, bus)]
        while await waiting_count(tables):
            await asyncio.gather(*(relay.publish_batch() for relay in relays * 2))
    assert len(bus.attempts) == 30
    assert await numbers_kept(bus_setting) == list(range(30))


async def test_while_one_relay_works_another_does_nothing(
    servers: Servers, schema: str, tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, 1, 2)
    bus = FaultyBus(bus_setting.bus)
    bus.stall = asyncio.Event()
    working = asyncio.create_task(OutboxRelay(tables, bus).publish_batch())
    await until(lambda: bool(bus.attempts))
    async with open_database(servers.service_dsn, schema, []) as other:
        assert await OutboxRelay(other, bus_setting.bus).publish_batch() == 0
    bus.stall.set()
    assert await working == 2
    assert await numbers_kept(bus_setting) == [1, 2]


async def test_a_relay_that_dies_between_publishing_and_marking_loses_and_doubles_nothing(
    tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, 1, 2, 3)
    bus = FaultyBus(bus_setting.bus)
    bus.stall = asyncio.Event()
    dying = asyncio.create_task(OutboxRelay(tables, bus).publish_batch())
    await until_kept(bus_setting, 1)
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    assert await waiting_count(tables) == 3
    again = FaultyBus(bus_setting.bus)
    assert await OutboxRelay(tables, again).publish_batch() == 3
    assert again.attempts[0] == bus.attempts[0], "a repeat comes under the same id"
    assert await numbers_kept(bus_setting) == [1, 2, 3]


async def test_running_publishes_what_is_there_and_what_comes_in_batches_and_in_order(
    tables: Database, bus_setting: BusSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_ROWS_MAX", 4)
    relay = OutboxRelay(tables, bus_setting.bus)
    await add(tables, *range(10))
    running = asyncio.create_task(relay.run())
    await until_kept(bus_setting, 10)
    await add(tables, *range(10, 15))
    await until_kept(bus_setting, 15)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await numbers_kept(bus_setting) == list(range(15))


async def test_a_relay_that_is_woken_does_not_wait_for_its_time(
    tables: Database, bus_setting: BusSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "POLL_SECONDS", 3_600.0)
    relay = OutboxRelay(tables, bus_setting.bus)
    running = asyncio.create_task(relay.run())
    for number in range(3):
        await asyncio.sleep(0.02)
        await add(tables, number)
        relay.wake()
        await until_kept(bus_setting, number + 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await numbers_kept(bus_setting) == [0, 1, 2]


async def test_running_goes_on_after_the_bus_or_the_database_has_failed(
    servers: Servers,
    schema: str,
    tables: Database,
    bus_setting: BusSetting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0.01)
    bus = FaultyBus(bus_setting.bus)
    bus.refused_subjects = {event_of(1).bus_subject}
    await add(tables, 0, 1, 2)
    running = asyncio.create_task(OutboxRelay(tables, bus).run())
    await until_kept(bus_setting, 1)
    await servers.execute(schema, "alter table outbox rename to outbox_elsewhere")
    bus.refused_subjects = set()
    await asyncio.sleep(0.3)
    await servers.execute(schema, "alter table outbox_elsewhere rename to outbox")
    await until_kept(bus_setting, 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await numbers_kept(bus_setting) == [0, 1, 2]


async def test_only_what_was_published_long_ago_is_forgotten(
    tables: Database, bus_setting: BusSetting
) -> None:
    relay = OutboxRelay(tables, bus_setting.bus)
    await add(tables, 1, 2)
    await relay.publish_batch()
    await add(tables, 3)
    ages = {1: KEEP_DAYS + 1, 2: KEEP_DAYS - 1}
    for number, days in ages.items():
        await tables.of(EVERYONE).execute(
            "update outbox set publish_time = now() - make_interval(days => $2) where subject = $1",
            event_of(number).bus_subject,
            days,
        )
    long_ago = datetime.timedelta(days=10 * KEEP_DAYS)
    await tables.of(EVERYONE).execute(
        "update outbox set create_time = now() - $1::interval", long_ago
    )
    await relay.prune()
    left = [
        row["subject"]
        for row in await tables.of(EVERYONE).fetch("select subject from outbox order by id")
    ]
    assert left == [event_of(number).bus_subject for number in (2, 3)]
