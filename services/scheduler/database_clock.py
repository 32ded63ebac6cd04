"""The database's clock: what the scheduler dates and what it compares go by no other."""

import datetime

from services.chassis.clock import Clock
from services.chassis.database import EVERYONE, Database


class DatabaseClock:
    """What the database said when it was last asked, and the time since. Ask it before its use.

    So ages are right whatever the clocks of the machines say on which schedulers run, and the times
    that several of them write are of one clock.
    """

    def __init__(self, database: Database, steady: Clock) -> None:
        """`steady` measures the time since."""
        self._database = database
        self._steady = steady
        self._said = (datetime.datetime.min.replace(tzinfo=datetime.UTC), 0.0)

    async def ask(self) -> None:
        """Sets the clock."""
        moment = await self._database.of(EVERYONE).fetchval("select clock_timestamp()")
        self._said = (moment, self._steady.monotonic())

    def now(self) -> datetime.datetime:
        """The wall clock, in UTC, behind by the time that the answer took."""
        moment, at = self._said
        return moment + datetime.timedelta(seconds=self.monotonic() - at)

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return self._steady.monotonic()
