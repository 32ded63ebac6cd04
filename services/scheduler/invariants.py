"""What must always hold of runs, leases, heads and events, as rules over the scheduler's schema."""

from pathlib import Path

from services.chassis.database import Pool
from services.chassis.invariants import Rule, durable_rule, sql_rules
from services.scheduler.core.run import ACTIVE, AGE_MAX, MOVES

INVARIANTS = Path(__file__).parent / "invariants.sql"


def scheduler_rules(pool: Pool, lease_seconds: float) -> list[Rule]:
    """The rules; a lease lasts `lease_seconds`."""
    active = sorted(ACTIVE)
    ages = [AGE_MAX[state].total_seconds() for state in active]
    moves = [(before, after) for before, legal in MOVES.items() for after in legal]
    arguments: dict[str, list[object]] = {
        "I4_one_active_run": [active],
        "I4_index": [active],
        "I5_ages": [active, ages],
        "I15_runs": [[before for before, _ in moves], [after for _, after in moves]],
        "I19_leases": [lease_seconds],
    }
    return [durable_rule(pool), *sql_rules(pool, INVARIANTS, arguments)]
