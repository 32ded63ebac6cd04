"""What every event bus does, in memory and on NATS with JetStream."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.api import StreamConfig

from services.chassis import bus as bus_module
from services.chassis.bus import (
    EVENT_BYTES_MAX,
    EVENTS_MAX_AGE_SECONDS,
    STREAM,
    SUBJECTS,
    Bus,
    NatsBus,
    PublishError,
    open_bus,
)
from tests.support.buses import (
    BusSetting,
    fresh_ids,
    jetstream_of,
    kept_by,
    open_nats,
    private_nats,
    until,
)
from tests.support.infrastructure import READY_SECONDS_MAX, Servers

PREFIX = "trine.events.v1"
QUEUED = f"{PREFIX}.run.queued.acme.dating"


@pytest.fixture
async def nats_bus(servers: Servers) -> AsyncIterator[NatsBus]:
    async with open_nats(servers) as bus:
        yield bus


async def listen(bus: Bus, pattern: str) -> list[str]:
    """The subjects that come under a pattern from now on."""
    heard: list[str] = []

    async def hint(subject: str) -> None:
        heard.append(subject)

    await bus.on_hint(pattern, hint)
    return heard


async def test_events_are_kept_whole_and_in_their_order(bus_setting: BusSetting) -> None:
    events = [(f"{PREFIX}.run.queued.acme.d{n}", b"\x00\xff %d" % n) for n in range(20)]
    for message_id, (subject, payload) in zip(fresh_ids(20), events, strict=True):
        await bus_setting.bus.publish(subject, payload, message_id)
    assert await bus_setting.kept() == events


async def test_an_event_is_kept_once_per_message_id(bus_setting: BusSetting) -> None:
    first, second = fresh_ids(2)
    for payload, message_id in ((b"1", first), (b"1", first), (b"2", first), (b"1", second)):
        await bus_setting.bus.publish(QUEUED, payload, message_id)
    assert await bus_setting.kept() == [(QUEUED, b"1"), (QUEUED, b"1")]


async def test_a_message_id_is_the_same_on_every_subject(bus_setting: BusSetting) -> None:
    (message_id,) = fresh_ids(1)
    await bus_setting.bus.publish(QUEUED, b"1", message_id)
    await bus_setting.bus.publish(f"{QUEUED}2", b"1", message_id)
    assert await bus_setting.kept() == [(QUEUED, b"1")]


async def test_of_racing_publications_of_one_id_one_is_kept(bus_setting: BusSetting) -> None:
    (message_id,) = fresh_ids(1)
    await asyncio.gather(*(bus_setting.bus.publish(QUEUED, b"1", message_id) for _ in range(20)))
    assert await bus_setting.kept() == [(QUEUED, b"1")]


async def test_an_event_of_the_largest_size_is_kept(bus_setting: BusSetting) -> None:
    payload = b"x" * (EVENT_BYTES_MAX - 200)  # headers count too
    await bus_setting.bus.publish(QUEUED, payload, *fresh_ids(1))
    assert await bus_setting.kept() == [(QUEUED, payload)]


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        (QUEUED, ["run.queued.acme.dating"]),
        (f"{PREFIX}.run.*.acme.dating", ["run.queued.acme.dating", "run.failed.acme.dating"]),
        (f"{PREFIX}.*.*.*.dating", ["run.queued.acme.dating", "run.failed.acme.dating"]),
        (
            f"{PREFIX}.run.queued.>",
            ["run.queued.acme.dating", "run.queued.globex.hiring", "run.queued.acme"],
        ),
        (f"{PREFIX}.run.queued.acme.>", ["run.queued.acme.dating"]),
        (f"{PREFIX}.run.queued.*", ["run.queued.acme"]),
        (f"{PREFIX}.head.>", []),
        (f"{PREFIX}.run", []),
    ],
)
async def test_hints_come_for_the_subjects_of_a_pattern_alone(
    bus_setting: BusSetting, pattern: str, heard: list[str]
) -> None:
    bus = bus_setting.bus
    found = await listen(bus, pattern)
    everything = await listen(bus, f"{PREFIX}.>")
    subjects = [
        "run.queued.acme.dating",
        "run.failed.acme.dating",
        "run.queued.globex.hiring",
        "run.queued.acme",
    ]
    for subject in subjects:
        await bus.publish(f"{PREFIX}.{subject}", b"", *fresh_ids(1))
    # A connection hears in the order of publication, so after the last one nothing is to come.
    await until(lambda: len(everything) == len(subjects))
    assert found == [f"{PREFIX}.{subject}" for subject in heard]
    assert everything == [f"{PREFIX}.{subject}" for subject in subjects]


async def test_everyone_who_listens_hears(bus_setting: BusSetting) -> None:
    listeners = [await listen(bus_setting.bus, QUEUED) for _ in range(3)]
    await bus_setting.bus.publish(QUEUED, b"", *fresh_ids(1))
    await until(lambda: all(listeners))
    assert listeners == [[QUEUED]] * 3


async def test_a_listener_that_fails_bothers_neither_publisher_nor_other_listeners(
    bus_setting: BusSetting,
) -> None:
    calls: list[str] = []

    async def failing(subject: str) -> None:
        calls.append(subject)
        raise ValueError(subject)

    await bus_setting.bus.on_hint(QUEUED, failing)
    heard = await listen(bus_setting.bus, QUEUED)
    for message_id in fresh_ids(2):
        await bus_setting.bus.publish(QUEUED, b"", message_id)
    await until(lambda: len(heard) == len(calls) == 2)
    assert len(await bus_setting.kept()) == 2


async def test_a_process_hears_what_another_publishes(nats_bus: NatsBus, servers: Servers) -> None:
    heard = await listen(nats_bus, f"{PREFIX}.run.>")
    await nats_bus._client.flush()  # the server knows of the subscription
    async with open_bus(servers.nats_url) as other:
        await other.publish(QUEUED, b"", *fresh_ids(1))
    await until(lambda: heard == [QUEUED])


async def test_declaring_the_stream_again_keeps_its_events(nats_bus: NatsBus) -> None:
    (message_id,) = fresh_ids(1)
    await nats_bus.publish(QUEUED, b"1", message_id)
    await nats_bus.declare_stream()
    await nats_bus.publish(QUEUED, b"1", message_id)
    assert await kept_by(nats_bus) == [(QUEUED, b"1")]


async def test_declaring_the_stream_brings_an_older_one_up_to_date(nats_bus: NatsBus) -> None:
    jetstream = jetstream_of(nats_bus)
    await jetstream.update_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS], max_age=600))
    await nats_bus.publish(QUEUED, b"1", *fresh_ids(1))
    await nats_bus.declare_stream()
    config = (await jetstream.stream_info(STREAM)).config
    assert (config.max_age, config.max_msg_size) == (EVENTS_MAX_AGE_SECONDS, EVENT_BYTES_MAX)
    assert await kept_by(nats_bus) == [(QUEUED, b"1")]


@pytest.mark.parametrize(
    ("subject", "payload"),
    [("somewhere.else", b""), (QUEUED, b"x" * (EVENT_BYTES_MAX + 1)), (QUEUED, b"x" * 2**21)],
    ids=["no stream", "too large for the stream", "too large for the server"],
)
async def test_what_no_stream_takes_is_an_error_of_the_publisher(
    nats_bus: NatsBus, subject: str, payload: bytes
) -> None:
    with pytest.raises(PublishError):
        await nats_bus.publish(subject, payload, *fresh_ids(1))
    await nats_bus.publish(QUEUED, b"1", *fresh_ids(1))
    assert await kept_by(nats_bus) == [(QUEUED, b"1")]


async def test_an_event_is_synced_to_disk_before_it_is_acknowledged(servers: Servers) -> None:
    def read() -> bytes:
        with urllib.request.urlopen(f"{servers.nats_monitor}/varz", timeout=5) as response:  # noqa: S310  # loopback
            content: bytes = response.read()
        return content

    told = json.loads(await asyncio.to_thread(read))
    assert told["jetstream"]["config"]["sync_always"]


async def test_acknowledged_events_and_their_ids_outlive_a_killed_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "PUBLISH_SECONDS_MAX", 0.5)
    async with private_nats(tmp_path / "nats") as (server, url), open_bus(url) as bus:
        await bus.declare_stream()
        await bus.publish(QUEUED, b"1", "a")
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.pid == 0)
        with pytest.raises(PublishError):
            await bus.publish(QUEUED, b"2", "b")
        await server.start()
        await server.until_ready(READY_SECONDS_MAX)
        for payload, message_id in ((b"1", "a"), (b"2", "b"), (b"3", "c")):
            await publish_until_acknowledged(bus, payload, message_id)
        assert await kept_by(bus) == [(QUEUED, b"1"), (QUEUED, b"2"), (QUEUED, b"3")]


async def publish_until_acknowledged(bus: NatsBus, payload: bytes, message_id: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                return await bus.publish(QUEUED, payload, message_id)
            except PublishError:
                await asyncio.sleep(0.05)
