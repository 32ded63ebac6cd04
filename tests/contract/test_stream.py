"""The stream as a copy of the outbox, on every bus: seen when it is none, and made anew."""

import asyncio
import json
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis import stream as module
from services.chassis.bus import (
    EVENTS_MAX_AGE_SECONDS,
    KeepingBus,
    UnsafeBusError,
    open_bus,
    refuse_forgetful,
)
from services.chassis.database import EVERYONE, Database, migrations_of
from services.chassis.invariants import Invariants
from services.chassis.outbox import KEEP_DAYS, RELAY_LOCK, OutboxRelay
from services.chassis.stream import (
    keep_stream,
    mend_stream,
    rebuild_stream,
    stream_rule,
    syncs_rule,
)
from services.mesh import programs
from services.mesh.child import Child
from services.mesh.home import Secrets
from tests.contract.test_outbox import add, event_of, numbers_kept, until_kept
from tests.support.buses import BusSetting, fresh_ids, private_nats, until
from tests.support.infrastructure import READY_SECONDS_MAX, Servers, free_ports, prepare_home


@pytest.fixture
async def tables(
    servers: Servers, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """A schema with nothing but an outbox; what was published counts at once."""
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    migrations = migrations_of(tmp_path, "outbox")
    async with servers.migrated(schema, migrations) as opened:
        yield opened


async def offenders(tables: Database, bus: KeepingBus) -> tuple[str, ...]:
    (finding,) = await Invariants([stream_rule(tables, bus)]).verify()
    assert not finding.unchecked
    return tuple(finding.offenders)


async def publish(tables: Database, bus: KeepingBus) -> int:
    return await OutboxRelay(tables, bus).publish_batch()


async def test_a_stream_that_holds_what_was_published_is_a_copy(
    tables: Database, bus_setting: BusSetting
) -> None:
    bus = bus_setting.bus
    assert await offenders(tables, bus) == ()
    await add(tables, 1, 2, 1)
    assert await offenders(tables, bus) == ()  # nothing was published yet
    await publish(tables, bus)
    await add(tables, 3)
    assert await offenders(tables, bus) == ()


async def test_events_that_are_gone_are_seen(tables: Database, bus_setting: BusSetting) -> None:
    await add(tables, 1, 2)
    await publish(tables, bus_setting.bus)
    await bus_setting.bus.purge()
    assert await offenders(tables, bus_setting.bus) == ("2 events are gone",)
    await add(tables, 3)
    await publish(tables, bus_setting.bus)
    assert await offenders(tables, bus_setting.bus) == ("2 events are gone",)


async def test_a_stream_with_others_events_is_no_copy(
    tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, 1, 2)
    await publish(tables, bus_setting.bus)
    await bus_setting.bus.purge()
    subject = event_of(1).bus_subject
    for message_id in fresh_ids(3):
        content = json.dumps({"id": str(uuid.UUID(message_id))}).encode()
        await bus_setting.bus.publish(subject, content, message_id)
    assert await offenders(tables, bus_setting.bus) == tuple(
        event_of(n).bus_subject for n in (1, 2)
    )


async def test_what_was_published_just_now_is_not_looked_for(
    tables: Database, bus_setting: BusSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 60.0)
    await add(tables, 1)
    await publish(tables, bus_setting.bus)
    await bus_setting.bus.purge()
    assert await offenders(tables, bus_setting.bus) == ()


async def test_an_emptied_stream_is_rebuilt_in_order_under_the_events_own_ids(
    tables: Database, bus_setting: BusSetting
) -> None:
    bus = bus_setting.bus
    await add(tables, *range(5))
    await publish(tables, bus)
    before = await bus_setting.kept()
    await add(tables, 5)  # not published yet
    for _ in range(2):  # a second time is as good as the first
        await bus.purge()
        assert await rebuild_stream(tables, bus) == 6
        assert await publish(tables, bus) == 6
        assert (await bus_setting.kept())[:5] == before
        assert await numbers_kept(bus_setting) == list(range(6))
        assert await offenders(tables, bus) == ()


async def test_a_rebuild_leaves_nothing_twice(tables: Database, bus_setting: BusSetting) -> None:
    await add(tables, *range(5))
    await publish(tables, bus_setting.bus)
    assert await rebuild_stream(tables, bus_setting.bus) == 5
    await publish(tables, bus_setting.bus)
    assert await numbers_kept(bus_setting) == list(range(5))


async def test_a_stream_that_has_lost_events_is_rebuilt_by_itself(
    tables: Database, bus_setting: BusSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    bus = bus_setting.bus
    await add(tables, 1, 2)
    await publish(tables, bus)
    keeping = asyncio.create_task(keep_stream(tables, bus))
    relaying = asyncio.create_task(OutboxRelay(tables, bus).run())
    await bus.purge()
    await until_kept(bus_setting, 2)
    assert await offenders(tables, bus) == ()
    await bus.purge()  # it is not rebuilt again and again
    await asyncio.sleep(0.3)
    assert await offenders(tables, bus) == ("2 events are gone",)
    for task in (keeping, relaying):
        task.cancel()
    await asyncio.gather(keeping, relaying, return_exceptions=True)


async def test_a_stream_that_lacks_nothing_is_left_alone(
    tables: Database, bus_setting: BusSetting
) -> None:
    bus = bus_setting.bus
    assert not await mend_stream(tables, bus)
    await add(tables, 1)
    assert not await mend_stream(tables, bus)
    await publish(tables, bus)
    assert not await mend_stream(tables, bus)
    await bus.purge()
    # Two who look at once: one of them rebuilds it.
    assert sorted(await asyncio.gather(*(mend_stream(tables, bus) for _ in range(2)))) == [
        False,
        True,
    ]
    assert await publish(tables, bus) == 1
    assert not await mend_stream(tables, bus)


async def test_what_the_stream_would_have_outlived_stays_out(
    tables: Database, bus_setting: BusSetting
) -> None:
    await add(tables, 1, 2)
    await publish(tables, bus_setting.bus)
    await tables.of(EVERYONE).execute(
        "update outbox set create_time = now() - interval '15 days' where id = 1"
    )
    assert await rebuild_stream(tables, bus_setting.bus) == 1


async def test_the_relay_waits_for_a_rebuild(tables: Database, bus_setting: BusSetting) -> None:
    await add(tables, 1)
    async with tables.begin(EVERYONE) as connection:
        await connection.execute(RELAY_LOCK)
        assert await publish(tables, bus_setting.bus) == 0
        rebuilding = asyncio.create_task(rebuild_stream(tables, bus_setting.bus))
        await asyncio.sleep(0.05)
        assert not rebuilding.done()
    assert await rebuilding == 1


async def test_a_stream_that_vanished_is_declared_anew_by_the_next_event(
    tables: Database, tmp_path: Path
) -> None:
    async with private_nats(tmp_path / "nats") as (server, url), open_bus(url) as bus:
        await bus.declare_stream()
        await add(tables, 1)
        await publish(tables, bus)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.pid == 0)
        shutil.rmtree(tmp_path / "nats" / "nats")
        await server.start()
        await server.until_ready(READY_SECONDS_MAX)
        await until(lambda: bus._client.is_connected)
        assert (await bus.kept(), await bus.last(event_of(1).bus_subject)) == ((0, True), None)
        assert await offenders(tables, bus) == ("1 events are gone",)
        await add(tables, 2)
        assert await publish(tables, bus) == 1
        assert await rebuild_stream(tables, bus) == 2
        await publish(tables, bus)
        assert (await bus.kept()).events_count == 2


def test_the_outbox_outlives_the_stream() -> None:
    assert KEEP_DAYS * 24 * 3600 > EVENTS_MAX_AGE_SECONDS + module.MARGIN_SECONDS


async def test_a_server_that_keeps_what_it_acknowledges_is_taken(servers: Servers) -> None:
    await refuse_forgetful(servers.nats_monitor)
    await refuse_forgetful("")  # nobody to ask
    found = await Invariants([syncs_rule(servers.nats_monitor), syncs_rule("")]).verify()
    assert [(f.offenders, f.unchecked) for f in found] == [
        ((), ""),
        ((), "TRINE_NATS_MONITOR_URL is not set"),
    ]


async def test_a_server_that_may_forget_is_refused(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "nats")
    port, monitor_port = free_ports(2)
    spec = programs.nats(home, port, monitor_port, Secrets())
    config = home.config / "nats.conf"
    text = config.read_text()
    config.write_text(text.replace("sync_interval: always", "sync_interval: 1s"))
    assert config.read_text() != text
    child = Child(spec, lambda: None)
    await child.start()
    try:
        await child.until_ready(READY_SECONDS_MAX)
        monitor = f"http://127.0.0.1:{monitor_port}"
        with pytest.raises(UnsafeBusError, match="sync_interval"):
            await refuse_forgetful(monitor)
        (found,) = await Invariants([syncs_rule(monitor)]).verify()
        assert found.offenders == ("sync_interval",)
    finally:
        await child.stop()
