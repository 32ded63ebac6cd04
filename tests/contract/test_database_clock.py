"""The scheduler's clock says what the database's says, whatever the machine's own does."""

import datetime

from services.chassis.clock import ManualClock
from services.chassis.database import EVERYONE
from services.scheduler.database_clock import DatabaseClock
from services.scheduler.postgres import MIGRATIONS
from tests.support.infrastructure import Servers

WRONG = datetime.datetime(1987, 1, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


async def test_times_are_the_databases_and_ages_this_machines(
    servers: Servers, schema: str
) -> None:
    async with servers.migrated(schema, MIGRATIONS) as database:
        steady = ManualClock(WRONG)
        clock = DatabaseClock(database, steady)
        await clock.ask()
        said = await database.of(EVERYONE).fetchval("select clock_timestamp()")
        before = clock.now()
        assert datetime.timedelta() <= said - before < 5 * SECOND
        steady.advance(90)
        assert clock.now() - before == 90 * SECOND
        await clock.ask()
        assert clock.now() - before < 5 * SECOND
