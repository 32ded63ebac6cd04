"""NATS: events out through JetStream, hints in through plain subscriptions.

An event is a copy of something that PostgreSQL already holds. Whoever publishes has an outbox;
whoever listens takes a message as a hint to look at the owner's API.
"""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

STREAM = "TRINE_EVENTS"
SUBJECTS = "trine.events.v1.>"
EVENTS_MAX_AGE_SECONDS = 14 * 24 * 3600
EVENTS_BYTES_MAX = 1024**3
EVENT_BYTES_MAX = 20 * 1024
PUBLISH_SECONDS_MAX = 5.0
MONITOR_SECONDS_MAX = 2.0
PING_SECONDS = 3
"""A connection that does not answer two pings is given up; of itself the client takes minutes."""

Hint = Callable[[str], Awaitable[None]]
"""Called with a subject when something may have changed there."""

_log = structlog.get_logger()


class Kept(NamedTuple):
    """What a bus keeps."""

    events_count: int
    complete: bool
    """False near the size at which the oldest make room for the newest."""


class Bus(Protocol):
    """What services need of the event bus."""

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publishes an event and returns once it is on disk.

        A repeat of the id within two minutes is dropped.

        Raises:
            PublishError: it may or may not have been stored; publish it again under the same id.
        """
        ...

    async def on_hint(self, subject: str, hint: Hint) -> None:
        """Calls `hint` for messages on the subject (wildcards allowed). Some may be missed."""
        ...


class KeepingBus(Bus, Protocol):
    """A bus that says what it keeps."""

    async def kept(self) -> Kept:
        """Says how much is kept; nothing where the stream itself is gone."""
        ...

    async def last(self, subject: str) -> bytes | None:
        """Returns the newest event kept on a subject."""
        ...

    async def purge(self) -> None:
        """Forgets all events. The ids of the last two minutes stay used up."""
        ...


class PublishError(Exception):
    """The bus did not acknowledge."""


class UnsafeBusError(Exception):
    """The server may forget what it has acknowledged."""


async def refuse_forgetful(monitor_url: str) -> None:
    """Refuses a NATS server that acknowledges before its disk has written.

    It is asked at its monitoring address; empty, for a server whose operator gives none, asks
    nobody.

    Raises:
        UnsafeBusError: the server's settings risk acknowledged events.
    """
    if monitor_url and not await syncs_always(monitor_url):
        raise UnsafeBusError("NATS runs without sync_interval: always")


async def syncs_always(monitor_url: str) -> bool:
    """Whether a NATS server says that an acknowledged message is on disk.

    Raises:
        OSError: it does not answer.
    """
    content = await asyncio.to_thread(_monitored, f"{monitor_url}/varz")
    return bool(content.get("jetstream", {}).get("config", {}).get("sync_always"))


def _monitored(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=MONITOR_SECONDS_MAX) as response:  # noqa: S310  # configured
        content: dict[str, Any] = json.load(response)
    return content


class NatsBus:
    """The bus on a NATS server with JetStream."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._jetstream = client.jetstream(timeout=PUBLISH_SECONDS_MAX)

    async def declare_stream(self) -> None:
        """Creates or updates the stream that keeps all events."""
        config = StreamConfig(
            name=STREAM,
            description="Everything that the mesh tells the world.",
            subjects=[SUBJECTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=EVENTS_MAX_AGE_SECONDS,
            max_bytes=EVENTS_BYTES_MAX,
            max_msg_size=EVENT_BYTES_MAX,
        )
        try:
            await self._jetstream.add_stream(config)
        except nats.js.errors.BadRequestError:  # it exists with other settings
            await self._jetstream.update_stream(config)

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publishes an event and returns once it is on disk."""
        headers = {"Nats-Msg-Id": message_id, "content-type": "application/cloudevents+json"}
        try:
            try:
                await self._jetstream.publish(subject, payload, headers=headers)
            except nats.js.errors.NoStreamResponseError:
                # Its store was lost under a running mesh.
                await self.declare_stream()
                await self._jetstream.publish(subject, payload, headers=headers)
        except (nats.errors.Error, TimeoutError) as error:
            raise PublishError(f"{subject}: {error!r}") from error

    async def on_hint(self, subject: str, hint: Hint) -> None:
        """Calls `hint` for each message on the subject."""

        async def heard(message: Msg) -> None:
            await hint(message.subject)

        await self._client.subscribe(subject, cb=heard)

    async def kept(self) -> Kept:
        """Says how much is kept."""
        try:
            state = (await self._jetstream.stream_info(STREAM)).state
        except nats.js.errors.NotFoundError:
            return Kept(0, complete=True)
        return Kept(state.messages, complete=state.bytes < EVENTS_BYTES_MAX * 0.9)

    async def last(self, subject: str) -> bytes | None:
        """Returns the newest event kept on a subject."""
        try:
            return (await self._jetstream.get_last_msg(STREAM, subject)).data
        except nats.js.errors.NotFoundError:
            return None

    async def purge(self) -> None:
        """Forgets all events."""
        await self.declare_stream()
        await self._jetstream.purge_stream(STREAM)


@asynccontextmanager
async def open_bus(url: str) -> AsyncIterator[NatsBus]:
    """Connects to NATS and reconnects for as long as the block lasts."""

    async def failed(error: Exception) -> None:
        _log.warning("nats_error", error=repr(error))

    client = await nats.connect(
        url,
        name="trine",
        connect_timeout=2,
        reconnect_time_wait=0.25,
        max_reconnect_attempts=-1,
        ping_interval=PING_SECONDS,
        error_cb=failed,
    )
    try:
        yield NatsBus(client)
    finally:
        await client.close()


class MemoryBus:
    """The bus of a mesh in one process; keeps what was published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self._ids: set[str] = set()
        self._hints: list[tuple[str, Hint]] = []

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        """Keeps an event and calls those who listen."""
        if message_id in self._ids:
            return
        self._ids.add(message_id)
        self.published.append((subject, payload))
        for pattern, hint in self._hints:
            if _matches(pattern.split("."), subject.split(".")):
                try:
                    await hint(subject)
                except Exception:  # the listener's own affair, as on a real bus
                    _log.exception("hint_failed", subject=subject)

    async def on_hint(self, subject: str, hint: Hint) -> None:
        """Calls `hint` for each message on the subject."""
        self._hints.append((subject, hint))

    async def kept(self) -> Kept:
        """Says how much is kept."""
        return Kept(len(self.published), complete=True)

    async def last(self, subject: str) -> bytes | None:
        """Returns the newest event kept on a subject."""
        return next((content for at, content in self.published[::-1] if at == subject), None)

    async def purge(self) -> None:
        """Forgets all events."""
        self.published.clear()


def _matches(pattern: list[str], subject: list[str]) -> bool:
    if pattern and pattern[-1] == ">":
        head = pattern[:-1]
        return len(subject) > len(head) and _matches(head, subject[: len(head)])
    pairs = zip(pattern, subject, strict=False)
    return len(pattern) == len(subject) and all(p in ("*", s) for p, s in pairs)
