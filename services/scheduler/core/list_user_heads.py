"""Which heads learned from a person, who may have been erased since."""

from dataclasses import dataclass

from services.scheduler.core.head import LearnedHead
from services.scheduler.core.ports import SchedulerStore, TripletCounts


@dataclass(frozen=True, slots=True)
class UserHead:
    """A head that a person is in."""

    learned: LearnedHead
    erased: bool
    """Whether the person has been erased since the snapshot was taken."""


async def list_user_heads(
    store: SchedulerStore,
    triplets: TripletCounts,
    tenant: str,
    user_id: str,
    domain: str,
    *,
    before: str,
    limit: int,
) -> list[UserHead]:
    """Returns heads, newest first, from the first older than `before`; an empty domain means all.

    Raises:
        DomainNotFoundError: there is no such domain.
        TripletsUnavailableError: the triplet store cannot be reached.
        UserNotFoundError: there is and was no such person.
    """
    found = await triplets.snapshots_with(tenant, user_id, domain)
    erased = {(one.domain, one.digest): one.erased for one in found}
    heads = await store.list_heads_of(tenant, list(erased), before, limit)
    return [UserHead(one, erased[one.head.domain, one.snapshot_digest]) for one in heads]
