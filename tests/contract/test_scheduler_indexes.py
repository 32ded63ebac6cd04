"""What the scheduler asks again and again goes to an index: the runs of years make it no slower."""

from pathlib import Path

import pytest

from services import scheduler
from services.chassis.database import EVERYONE, load_queries
from services.scheduler.postgres import MIGRATIONS
from tests.support.infrastructure import Servers

SQL = load_queries(Path(scheduler.__file__).parent / "queries.sql")


@pytest.mark.parametrize(
    ("query", "arguments", "index"),
    [
        ("active_rollouts", (), "rollouts_active"),
        ("lock_expired_runs", (), "runs_leased"),
        ("lock_queued_run", (), "runs_queued"),
        ("past_runs", (50,), "runs_past"),
        ("queued_count", (), "runs_queued"),
        ("run_counts", (), "runs_open"),
        ("snapshots_in_use", (), "runs_open"),
        ("untold_runs", (100,), "runs_untold"),
    ],
)
async def test_a_query_of_the_background_finds_its_runs_by_an_index(
    servers: Servers, schema: str, query: str, arguments: tuple[int, ...], index: str
) -> None:
    async with (
        servers.migrated(schema, MIGRATIONS) as database,
        database.begin(EVERYONE) as connection,
    ):
        await connection.execute("set local enable_seqscan = off")  # the tables are empty
        plan = await connection.fetch(f"explain {SQL[query]}", *arguments)
    told = "\n".join(line[0] for line in plan)
    assert index in told
    assert "Seq Scan on runs" not in told
