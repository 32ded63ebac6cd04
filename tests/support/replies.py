"""Stores that answer a request once, under one form: open a unit, change something, count it."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import cast

from services.chassis.database import EVERYONE
from services.chassis.replies import Replies
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.triplets.core.ports import DomainUnit, TripletStore
from tests.support.domains import DOMAIN, SCHEMA, TENANT, profile_of
from tests.support.runs import job_of

TENANTS = (TENANT, "globex")


@dataclass(frozen=True)
class Answering:
    """A store whose units keep first answers."""

    open: Callable[[str], AbstractAsyncContextManager[Replies]]
    """Opens a unit about a tenant."""
    change: Callable[[Replies], Awaitable[None]]
    """Leaves one trace more."""
    count: Callable[[], Awaitable[int]]
    """Counts the traces."""


async def answering_triplets(store: TripletStore) -> Answering:
    """Traces are revisions of a domain that two tenants have."""
    for tenant in TENANTS:
        await store.create_domain(tenant, SCHEMA)

    async def change(unit: Replies) -> None:
        await cast("DomainUnit", unit).save_profile(profile_of("ada"), [30.0])

    def begin(tenant: str) -> AbstractAsyncContextManager[Replies]:
        return cast("AbstractAsyncContextManager[Replies]", store.open_domain(tenant, DOMAIN))

    async def count() -> int:
        found = [await store.read_counts(tenant, DOMAIN) for tenant in TENANTS]
        return sum(counts.revision for counts in found if counts is not None)

    return Answering(begin, change, count)


def answering_scheduler(store: SchedulerStore) -> Answering:
    """Traces are queued runs, whoever asked."""

    async def change(unit: Replies) -> None:
        await cast("SchedulerUnit", unit).add_run(job_of(domain=f"d-{uuid.uuid4()}"))

    def begin(_tenant: str) -> AbstractAsyncContextManager[Replies]:
        return cast("AbstractAsyncContextManager[Replies]", store.begin(EVERYONE))

    return Answering(begin, change, store.queued_count)
