"""Time as a dependency, so that tests own it."""

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """What code that depends on time is given."""

    def now(self) -> datetime.datetime:
        """The wall clock, in UTC: for what people read."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back: for timeouts and ages."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime.datetime:
        """The wall clock, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def monotonic(self) -> float:
        """Seconds since some moment of the past."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime.datetime) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime.datetime:
        """The moment that the test chose."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward."""
        self._now += datetime.timedelta(seconds=seconds)
        self._monotonic += seconds
