"""How every scheduler's store numbers the runs of a tenant, day by day."""

import asyncio

import pytest

from services.chassis.clock import ManualClock
from services.chassis.database import EVERYONE
from services.scheduler.core.errors import RunActiveError
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import Run, run_id_of
from services.scheduler.memory import MemorySchedulerStore
from services.scheduler.postgres import MIGRATIONS
from tests.support.infrastructure import Servers
from tests.support.runs import MOMENT, TENANT, postgres_setting, queue


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


def id_of(run: Run, number: int) -> str:
    return run_id_of(run.create_time.date(), number)


async def test_runs_are_numbered_per_tenant(store: SchedulerStore) -> None:
    acme = [await queue(store, domain) for domain in ("dating", "hiring")]
    globex = await queue(store, tenant="globex")
    assert [run.run_id for run in acme] == [id_of(acme[0], 1), id_of(acme[0], 2)]
    assert globex.run_id == id_of(globex, 1)


async def test_twenty_runs_queued_at_once_get_twenty_numbers(store: SchedulerStore) -> None:
    runs = await asyncio.gather(*(queue(store, f"domain-{index}") for index in range(20)))
    assert sorted(run.run_id for run in runs) == [id_of(runs[0], n) for n in range(1, 21)]


async def test_numbers_begin_anew_every_day() -> None:
    clock = ManualClock(MOMENT)
    store = MemorySchedulerStore(clock)
    await queue(store, "dating")
    clock.advance(24 * 3600)
    assert (await queue(store, "hiring")).run_id == "tr_2026_05_18_001"


async def test_numbers_of_the_day_before_do_not_count(servers: Servers, schema: str) -> None:
    async with servers.migrated(schema, MIGRATIONS) as database:
        await database.of(EVERYONE).execute(
            "insert into run_numbers (tenant, day, number) "
            "values ($1, (now() at time zone 'utc')::date - 1, 41)",
            TENANT,
        )
        run = await queue(postgres_setting(database).store)
    assert run.run_id == id_of(run, 1)


async def test_the_thousandth_run_of_a_day_has_four_digits(servers: Servers, schema: str) -> None:
    async with servers.migrated(schema, MIGRATIONS) as database:
        await database.of(EVERYONE).execute(
            "insert into run_numbers (tenant, day, number) "
            "values ($1, (now() at time zone 'utc')::date, 999)",
            TENANT,
        )
        run = await queue(postgres_setting(database).store)
    assert run.run_id == f"tr_{run.create_time:%Y_%m_%d}_1000"


async def test_a_refused_run_uses_up_no_number(store: SchedulerStore) -> None:
    run = await queue(store)
    with pytest.raises(RunActiveError):
        await queue(store)
    assert (await queue(store, "hiring")).run_id == id_of(run, 2)
