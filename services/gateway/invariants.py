"""What must always hold of keys, files, jobs and webhooks, as rules over the gateway's schema."""

from pathlib import Path

from services.chassis.database import Database
from services.chassis.invariants import Rule, apart_rule, durable_rule, sql_rules
from services.gateway.core.webhook import GONE, PAUSES_SECONDS

INVARIANTS = Path(__file__).parent / "invariants.sql"


def gateway_rules(database: Database) -> list[Rule]:
    """The rules."""
    attempts = {"I16_attempts": [len(PAUSES_SECONDS) + 1, GONE]}
    return [
        durable_rule(database),
        apart_rule(database, ["erasures"]),
        *sql_rules(database, INVARIANTS, attempts),
    ]
