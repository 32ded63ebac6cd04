"""Coroutines stepped by hand: a seed says who goes on next, and who dies before they could.

Nothing here waits for real time, starts a thread or asks for any other randomness, so a seed is a
schedule. A coroutine may be overtaken, or die, wherever it awaits a `Turn`; ports do so at each of
their calls (`Stepped`).
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from structlog.testing import capture_logs

Item = TypeVar("Item")
Condition = Callable[[], bool]

OVERTAKEN_SHARE = 0.3
"""Of the calls of ports."""
STEPS_MAX = 20_000
"""More in one schedule means that something goes round in circles."""


class Violation(AssertionError):  # noqa: N818  # it is what has been found, not what went wrong
    """An invariant does not hold."""

    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")


def require(holds: object, invariant: str, message: str) -> None:
    """Says which invariant does not hold."""
    if not holds:
        raise Violation(invariant, message)


class Turn:
    """Awaited where others may go first."""

    __slots__ = ("_until",)

    def __init__(self, until: Condition | None = None) -> None:
        """Waits for a condition, or for nothing but its turn."""
        self._until = until

    def __await__(self) -> Generator[Condition | None, None, None]:
        yield self._until


class Stepped:
    """A port before whose calls others may go first."""

    def __init__(self, port: object, stage: "Stage") -> None:
        self._port = port
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if not callable(value):
            return value

        async def call(*arguments: Any, **named: Any) -> Any:
            if self._stage.chance(OVERTAKEN_SHARE):
                await Turn()
            return await value(*arguments, **named)

        return call


@dataclass(eq=False, slots=True)
class Activity:
    """Something that a party is about."""

    party: str
    name: str
    coroutine: Coroutine[Any, Any, Any]
    until: Condition | None = None


@dataclass
class Stage:
    """All that is under way. Errors of these kinds are answers; any other ends the schedule."""

    random: random.Random
    answers: tuple[type[Exception], ...]
    activities: list[Activity] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    _steps: int = 0

    def start(self, party: str, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Begins something; it goes on when its turn comes."""
        self.activities.append(Activity(party, name, coroutine))

    def step(self) -> bool:
        """Lets somebody go on; False if nobody can."""
        ready = [one for one in self.activities if one.until is None or one.until()]
        if not ready:
            return False
        self._steps += 1
        require(self._steps < STEPS_MAX, "liveness", "it goes round in circles")
        activity = ready[int(self.random.random() * len(ready))]
        label = f"{activity.party}: {activity.name}"
        try:
            activity.until = activity.coroutine.send(None)
        except StopIteration:
            self.activities.remove(activity)
            label += " ends"
        except self.answers as error:
            self.activities.remove(activity)
            label += f" ends with {type(error).__name__}"
        self.trace.append(label)
        return True

    def kill(self, party: str) -> None:
        """Ends a party's activities between two of their steps."""
        for activity in [one for one in self.activities if one.party == party]:
            self.activities.remove(activity)
            activity.coroutine.close()
            self.note(f"{party}: {activity.name} dies")

    def finish(self) -> None:
        """Lets everybody go on to their end."""
        while self.step():
            continue
        waiting = [f"{one.party}: {one.name}" for one in self.activities]
        require(not waiting, "liveness", f"nobody will ever wake {waiting}")

    def close(self) -> None:
        """Ends everything."""
        for activity in self.activities:
            activity.coroutine.close()
        self.activities.clear()

    def note(self, line: str) -> None:
        """Adds a line to the trace."""
        self.trace.append(line)

    def chance(self, probability: float) -> bool:
        """Draws."""
        return self.random.random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """Draws one."""
        return items[int(self.random.random() * len(items))]

    @property
    def digest(self) -> str:
        """What two equal schedules have in common."""
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()


class _Threads:
    """The loop of those who think that one is running: what goes to a thread waits for its turn."""

    def run_in_executor(self, _executor: None, call: Callable[[], Item]) -> Awaitable[Item]:
        async def work() -> Item:
            await Turn()
            result = call()
            await Turn()
            return result

        return work()


@contextmanager
def stepping() -> Iterator[None]:
    """Threads and logs belong to the stage for as long as the block lasts."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(_Threads())  # type: ignore[arg-type]  # as much of one as is asked for
    try:
        with capture_logs():
            yield
    finally:
        asyncio._set_running_loop(before)
