"""Tenants, keys, files, uploads and jobs in PostgreSQL."""

from services.gateway.postgres.files import PostgresFileStore
from services.gateway.postgres.jobs import PostgresJobStore
from services.gateway.postgres.keys import PostgresKeyStore
from services.gateway.postgres.queries import MIGRATIONS, SCHEMA

__all__ = ["MIGRATIONS", "SCHEMA", "PostgresFileStore", "PostgresJobStore", "PostgresKeyStore"]
