"""The gateway's stores in dictionaries, for tests."""

from services.gateway.memory.files import MemoryFileStore
from services.gateway.memory.jobs import MemoryJobStore
from services.gateway.memory.keys import MemoryKeyStore
from services.gateway.memory.webhooks import MemoryWebhookStore

__all__ = ["MemoryFileStore", "MemoryJobStore", "MemoryKeyStore", "MemoryWebhookStore"]
