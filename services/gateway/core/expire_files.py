"""What happens by itself: files and uploads expire, and bytes that nothing names are erased."""

from services.gateway.core.ports import Clock, Contents, FileStore

ERASURES_MAX = 100
"""Bytes that are erased at one go."""


async def expire_files(store: FileStore, contents: Contents, clock: Clock) -> None:
    """Ends what is over, and erases what has been due for a day."""
    await store.expire(clock.now())
    for digest in await store.list_due(clock.now(), ERASURES_MAX):
        await store.settle(digest, contents.erase)
