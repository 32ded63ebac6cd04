"""What must always hold of people and outcomes, as rules over the triplet store's schema."""

from pathlib import Path

from services.chassis.database import Database
from services.chassis.invariants import Rule, apart_rule, durable_rule, sql_rules
from services.triplets.core.triplet import NEGATIVES_MAX

INVARIANTS = Path(__file__).parent / "invariants.sql"


def triplet_rules(database: Database) -> list[Rule]:
    """The rules."""
    return [
        durable_rule(database),
        apart_rule(database, ["shared_domains"]),
        *sql_rules(database, INVARIANTS, {"I3_triplets": [NEGATIVES_MAX]}),
    ]
