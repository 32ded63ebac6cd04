"""Creating a tenant."""

from services.gateway.core.api_key import check_tenant
from services.gateway.core.ports import KeyStore


async def create_tenant(store: KeyStore, tenant: str) -> None:
    """Stores a tenant under an id that may stand in subjects and head names."""
    check_tenant(tenant)
    await store.add_tenant(tenant)
