"""Which head answers in a tenant's domain: its own, else the domain's, else the encoder alone.

The pointer of a tenant's domain names the tenant's own head, or none. What answers without one is
the tier above: the head that the shared domain of the name points at.
"""

from services.scheduler.core.head import SHARED, Head
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.verdict import GENERAL


async def lock_in_use(unit: SchedulerUnit, tenant: str, domain: str) -> Head | None:
    """Locks the pointers and returns the head in use; None for the encoder alone."""
    own = await unit.lock_pointer(tenant, domain)
    above = await lock_above(unit, tenant, domain)
    return own or above


async def lock_above(unit: SchedulerUnit, tenant: str, domain: str) -> Head | None:
    """Locks the pointer of the tier above and returns its head. Lock the tenant's own first."""
    return None if tenant == SHARED else await unit.lock_pointer(SHARED, domain)


async def read_in_use(store: SchedulerStore, tenant: str, domain: str) -> Head | None:
    """Returns the head in use; None for the encoder alone."""
    own = await store.head_in_use(tenant, domain)
    return own or await store.head_in_use(SHARED, domain)


def name_of(head: Head | None) -> str:
    """The version of a head; "general" for the encoder alone."""
    return GENERAL if head is None else head.head
