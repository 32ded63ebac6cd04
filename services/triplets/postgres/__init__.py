"""Domains, people and outcomes in PostgreSQL."""

from services.triplets.postgres.queries import MIGRATIONS, SCHEMA
from services.triplets.postgres.store import PostgresTripletStore

__all__ = ["MIGRATIONS", "SCHEMA", "PostgresTripletStore"]
