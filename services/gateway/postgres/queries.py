"""The schema that the gateway owns, its migrations and its queries by name."""

from pathlib import Path

from services.chassis.database import load_queries, migrations_of

SCHEMA = "gateway"
_SERVICE = Path(__file__).parents[1]
MIGRATIONS = migrations_of(_SERVICE / "migrations")
SQL = load_queries(_SERVICE / "queries.sql")
