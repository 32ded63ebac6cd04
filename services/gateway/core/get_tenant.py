"""Looking whether there is a tenant."""

from services.gateway.core.api_key import check_tenant
from services.gateway.core.errors import TenantNotFoundError
from services.gateway.core.ports import KeyStore


async def get_tenant(store: KeyStore, tenant: str) -> None:
    """Refuses a tenant that does not exist, and an id that none could have."""
    check_tenant(tenant)
    if not await store.has_tenant(tenant):
        raise TenantNotFoundError(tenant)
