"""Tenants, keys, files, uploads, jobs and webhooks in PostgreSQL."""

from services.gateway.postgres.files import PostgresFileStore
from services.gateway.postgres.jobs import PostgresJobStore
from services.gateway.postgres.keys import PostgresKeyStore
from services.gateway.postgres.queries import MIGRATIONS, SCHEMA
from services.gateway.postgres.webhooks import PostgresWebhookStore

__all__ = [
    "MIGRATIONS",
    "SCHEMA",
    "PostgresFileStore",
    "PostgresJobStore",
    "PostgresKeyStore",
    "PostgresWebhookStore",
]
