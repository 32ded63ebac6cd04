"""Buses under test: what they keep, and ways to let them fail."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nats.js import JetStreamContext

from services.chassis.bus import (
    STREAM,
    Bus,
    Hint,
    KeepingBus,
    MemoryBus,
    NatsBus,
    PublishError,
    open_bus,
)
from services.mesh import programs
from services.mesh.child import Child
from services.mesh.home import Secrets
from services.mesh.nats_users import mesh_url
from tests.support.infrastructure import READY_SECONDS_MAX, Servers, free_ports, prepare_home

Kept = list[tuple[str, bytes]]


@dataclass(frozen=True)
class BusSetting:
    """A bus and what it has kept, in order."""

    bus: KeepingBus
    kept: Callable[[], Awaitable[Kept]]


@asynccontextmanager
async def open_bus_setting(kind: str, servers: Servers) -> AsyncIterator[BusSetting]:
    """An empty bus in memory or on the session's NATS server."""
    if kind == "memory":
        yield memory_setting()
        return
    async with open_nats(servers) as bus:
        yield BusSetting(bus, lambda: kept_by(bus))


@asynccontextmanager
async def open_nats(servers: Servers) -> AsyncIterator[NatsBus]:
    """The bus on the session's NATS server, its stream declared and emptied."""
    async with open_bus(servers.nats_url) as bus:
        await bus.declare_stream()
        # Removing the stream and making it anew at once fails now and then, so it stays, and with
        # it the ids of the last minutes.
        await jetstream_of(bus).purge_stream(STREAM)
        yield bus


def memory_setting() -> BusSetting:
    """An empty bus in memory."""
    bus = MemoryBus()

    async def kept() -> Kept:
        return list(bus.published)

    return BusSetting(bus, kept)


def jetstream_of(bus: NatsBus) -> JetStreamContext:
    """The bus' own way to its stream."""
    return bus._jetstream


def fresh_ids(count: int) -> list[str]:
    """Message ids that never came before."""
    return [uuid.uuid4().hex for _ in range(count)]


async def kept_by(bus: NatsBus) -> Kept:
    """What the stream holds."""
    jetstream = jetstream_of(bus)
    state = (await jetstream.stream_info(STREAM)).state
    if not state.messages:
        return []
    sequences = range(state.first_seq, state.last_seq + 1)
    messages = [await jetstream.get_msg(STREAM, sequence) for sequence in sequences]
    return [(message.subject or "", message.data or b"") for message in messages]


@asynccontextmanager
async def private_nats(folder: Path) -> AsyncIterator[tuple[Child, str]]:
    """A NATS server that a test may kill, and its address."""
    home, secrets = prepare_home(folder), Secrets()
    port, monitor_port = free_ports(2)
    child = Child(programs.nats(home, port, monitor_port, secrets), lambda: None)
    await child.start()
    try:
        await child.until_ready(READY_SECONDS_MAX)
        yield child, mesh_url(f"127.0.0.1:{port}", secrets)
    finally:
        await child.stop()


async def until(condition: Callable[[], bool], seconds_max: float = 5.0) -> None:
    """Waits for what another process brings about."""
    async with asyncio.timeout(seconds_max):
        while not condition():  # noqa: ASYNC110  # another process cannot set an event
            await asyncio.sleep(0.002)


class FaultyBus:
    """Passes events on to a bus, except where a test lets it fail."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.attempts: list[str] = []
        """Message ids, as often as they came."""
        self.refused_subjects: set[str] = set()
        self.stall: asyncio.Event | None = None
        """Keeps the acknowledgement back until it is set."""

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        self.attempts.append(message_id)
        if subject in self.refused_subjects:
            raise PublishError(subject)
        await self._bus.publish(subject, payload, message_id)
        if self.stall is not None:
            await self.stall.wait()

    async def on_hint(self, subject: str, hint: Hint) -> None:
        await self._bus.on_hint(subject, hint)
