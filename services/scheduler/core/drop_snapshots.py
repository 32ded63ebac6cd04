"""What erasures leave behind: files of snapshots that nobody needs any more."""

from services.scheduler.core.ports import SchedulerStore, TripletCounts


async def drop_snapshots(store: SchedulerStore, triplets: TripletCounts) -> list[str]:
    """Has the snapshots deleted that hold somebody erased and that no active run learns from.

    Whoever starts meanwhile learns from a new one: the same arrays cannot come again.

    Raises:
        TripletsUnavailableError: the triplet store cannot be reached.
    """
    outdated = await triplets.outdated_snapshots()
    if not outdated:
        return []
    in_use = await store.snapshots_in_use()
    if "" in in_use:
        return []  # somebody's, as yet unknown
    dropped = [digest for digest in outdated if digest not in in_use]
    for digest in dropped:
        await triplets.drop_snapshot(digest)
    return dropped
