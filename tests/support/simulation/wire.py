"""What stands between the scheduler's commits and the world: an outbox and a stream that fails."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.chassis.bus import PublishError
from services.scheduler.core.rollout import Rollout
from services.scheduler.core.run import Run
from services.scheduler.memory import MemorySchedulerStore
from tests.support.simulation.stage import Stage, Turn, require


def subject_of(kind: str, about: object) -> str:
    """What an event is about: events of one subject have an order."""
    if isinstance(about, Run):
        return f"{about.job.tenant}/{about.run_id}"
    if isinstance(about, Rollout):
        return f"{about.tenant}/{about.rollout_id}"
    assert isinstance(about, tuple)
    return f"{kind.split('.', maxsplit=1)[0]}/{about[0]}/{about[1]}"


@dataclass
class Outbox:
    """The outbox as the relay's SQL finds it: its rows are the events that the store committed."""

    store: MemorySchedulerStore
    published: set[int] = field(default_factory=set)
    """Ids of rows that are marked."""
    locked: bool = False
    """Whether a transaction holds the relays' lock."""

    @property
    def waiting(self) -> list[int]:
        """Ids of rows that are not marked, oldest first."""
        ids = range(1, len(self.store.events) + 1)
        return [row_id for row_id in ids if row_id not in self.published]

    @asynccontextmanager
    async def begin(self, *_tenants: str) -> AsyncIterator["_Connection"]:
        """As the database's own."""
        await Turn()
        connection = _Connection(self)
        async with connection.transaction():
            yield connection


class _Connection:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._marked: set[int] = set()
        self._locks = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        try:
            yield
            await Turn()
            self._outbox.published |= self._marked
        finally:
            if self._locks:
                self._outbox.locked = False

    async def fetchval(self, query: str) -> bool:
        """Tries to take the lock."""
        await Turn()
        assert "pg_try_advisory_xact_lock" in query
        self._locks = not self._outbox.locked
        self._outbox.locked = True
        return self._locks

    async def fetch(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Reads rows that are not marked."""
        await Turn()
        assert "publish_time is null order by id limit" in query
        events = self._outbox.store.events
        return [
            {
                "id": row_id,
                "event_id": f"event-{row_id}",
                "epoch": 0,
                "subject": subject_of(*events[row_id - 1]),
                "payload": events[row_id - 1][0],
                "age_seconds": 0.0,
            }
            for row_id in self._outbox.waiting[:limit]
        ]

    async def execute(self, query: str, ids: Sequence[int]) -> None:
        """Marks rows, once the transaction commits."""
        await Turn()
        assert query.startswith("update outbox set publish_time")
        self._marked |= set(ids)


@dataclass
class Stream:
    """A stream that may keep what it does not acknowledge, late too, and be lost as a whole."""

    stage: Stage
    faults: float = 0.0
    """Share of publishes that fail in some way."""
    heard: list[tuple[str, str]] = field(default_factory=list)
    """All that was ever kept: subject and message id."""
    known: set[str] = field(default_factory=set)
    """Ids of which a repeat is dropped."""
    late: list[tuple[str, str]] = field(default_factory=list)
    """What is still on its way, long after its publisher gave up."""

    async def publish(self, subject: str, _payload: bytes, message_id: str) -> None:
        """As the bus."""
        await Turn()
        if not self.stage.chance(self.faults):
            self.keep(subject, message_id)
            await Turn()
            return
        fate = self.stage.pick(("refused", "kept", "late"))
        if fate == "kept":
            self.keep(subject, message_id)
        elif fate == "late":
            self.late.append((subject, message_id))
        await Turn()
        raise PublishError(fate)

    def keep(self, subject: str, message_id: str) -> None:
        """Appends, unless the id is known."""
        if message_id not in self.known:
            self.known.add(message_id)
            self.heard.append((subject, message_id))

    def arrive(self) -> None:
        """Keeps what was on its way."""
        if self.late:
            self.keep(*self.late.pop(0))

    def lose(self) -> None:
        """Wipes the stream: what it kept and which ids it knew."""
        self.known.clear()

    def check(self, events: Sequence[tuple[str, object]], *, complete: bool) -> None:
        """Each subject's events come in their order and without gaps, but for repeats.

        Raises:
            Violation: they do not; or, of a complete stream, some have not come at all.
        """
        expected: dict[str, list[str]] = {}
        for row_id, event in enumerate(events, 1):
            expected.setdefault(subject_of(*event), []).append(f"event-{row_id}")
        first: dict[str, dict[str, None]] = {}
        for subject, message_id in self.heard:
            first.setdefault(subject, {})[message_id] = None
        for subject, ids in expected.items():
            heard = list(first.get(subject, ()))
            require(
                heard == ids[: len(heard)], "I13", f"{subject}: {heard} came, {ids} was committed"
            )
            require(not complete or heard == ids, "I13", f"{subject}: only {heard} of {ids} came")
        require(set(first) <= set(expected), "I13", "an event came that was never committed")
