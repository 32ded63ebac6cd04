"""Putting an earlier head back in use: promotion's pointer, moved by hand.

The head before is the parent of the one in use: a head is promoted only over the head that it was
measured against. A parent of the tier above is no head of the tenant's: then that tier answers.
"""

from services.scheduler.core.advance_rollouts import end_rollouts
from services.scheduler.core.errors import HeadNotFoundError
from services.scheduler.core.in_use import lock_above, name_of
from services.scheduler.core.ports import Clock, SchedulerUnit
from services.scheduler.core.verdict import GENERAL


async def roll_back_head(
    unit: SchedulerUnit, clock: Clock, tenant: str, domain: str, head: str
) -> tuple[str, str]:
    """Moves the pointer to `head`, or to the head before when it is empty.

    "general" takes the tenant's own head out of use: the tier above answers. A rollout under way
    ends: what it is measured against is out of use. Returns the heads in use after and before,
    "general" for the encoder alone.

    Raises:
        HeadNotFoundError: no head is in use, or the one named never was.
    """
    in_use = await unit.lock_pointer(tenant, domain)
    above = await lock_above(unit, tenant, domain)
    previous = "" if in_use is None else in_use.head
    if head == "" and in_use is not None:
        parent = await unit.find_head(tenant, domain, in_use.parent)
        target = "" if parent is None else parent.head
    elif head in (GENERAL, name_of(above)):
        target = ""
    elif head and await unit.was_in_use(tenant, domain, head):
        target = head
    else:
        raise HeadNotFoundError(domain, head)
    if target != previous:
        await unit.move_pointer(tenant, domain, target, previous, "rolled back")
        found = await unit.find_head(tenant, domain, target) if target else above
        await unit.emit_head("rolled_back", tenant, domain, found, previous)
        reason = f"The domain was rolled back to {target or name_of(above)}."
        await end_rollouts(unit, clock, tenant, domain, head=target, reason=reason)
    return target or name_of(above), previous or name_of(above)
