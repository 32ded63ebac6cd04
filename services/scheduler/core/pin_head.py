"""Pinning a domain's promotion: the head in use stays, whatever runs bring."""

from services.scheduler.core.advance_rollouts import end_rollouts
from services.scheduler.core.errors import HeadNotFoundError
from services.scheduler.core.in_use import lock_above, lock_in_use, name_of
from services.scheduler.core.ports import Clock, SchedulerUnit
from services.scheduler.core.verdict import GENERAL


async def pin_head(
    unit: SchedulerUnit, clock: Clock, tenant: str, domain: str, head: str
) -> tuple[str, str]:
    """Pins `head`, or the head in use when it is empty, and puts it in use if it is not.

    Without a head of the tenant's own it is pinned that there is none: the tier above answers.
    A rollout under way ends: nothing may take the place of what is pinned. Returns the heads in use
    after and before, "general" for the encoder alone.

    Raises:
        HeadNotFoundError: the head was never in use and did not pass every rule of the gate.
    """
    in_use = await unit.lock_pointer(tenant, domain)
    above = await lock_above(unit, tenant, domain)
    previous = "" if in_use is None else in_use.head
    target = previous if head == "" else "" if head in (GENERAL, name_of(above)) else head
    found = await unit.find_head(tenant, domain, target) if target else above
    if target != previous:
        earned = found is not None and found.verdict.passed
        if target and not earned and not await unit.was_in_use(tenant, domain, target):
            raise HeadNotFoundError(domain, head)
        await unit.move_pointer(tenant, domain, target, previous, "pinned")
    if target != previous or not await unit.is_pinned(tenant, domain):
        await unit.set_pinned(tenant, domain, pinned=True)
        await unit.emit_head("pinned", tenant, domain, found, previous)
        reason = f"The promotion was pinned to {target or name_of(above)}."
        await end_rollouts(unit, clock, tenant, domain, head=target, reason=reason)
    return target or name_of(above), previous or name_of(above)


async def unpin_head(unit: SchedulerUnit, tenant: str, domain: str) -> str:
    """Lets runs move the pointer again, and returns the head in use."""
    in_use = await lock_in_use(unit, tenant, domain)
    head = "" if in_use is None else in_use.head
    if await unit.is_pinned(tenant, domain):
        await unit.set_pinned(tenant, domain, pinned=False)
        await unit.emit_head("unpinned", tenant, domain, in_use, head)
    return head or GENERAL
