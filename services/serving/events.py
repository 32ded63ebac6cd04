"""Events in: a head that comes into use and a rollout that moves are hints to look."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.chassis.bus import Bus

SUBJECTS = ("trine.events.v1.head.>", "trine.events.v1.rollout.>")
ASK_SECONDS = 5.0
RETRY_SECONDS = 0.5

_log = structlog.get_logger()


class PromotionHints:
    """Turns events into one thing to wait for, however many there are."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()

    async def listen(self, bus: Bus) -> None:
        """Listens from now on."""
        for subject in SUBJECTS:
            await bus.on_hint(subject, self._hear)

    async def _hear(self, _subject: str) -> None:
        self._heard.set()

    async def follow(self, sync: Callable[[], Awaitable[None]], done: Callable[[], None]) -> None:
        """Calls `sync` at start, on a timer and on every hint; `done` hears of each success."""
        while True:
            self._heard.clear()
            pause = ASK_SECONDS
            try:
                await sync()
                done()
            except Exception as error:
                _log.warning("sync_failed", error=repr(error))
                pause = RETRY_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._heard.wait()
            except TimeoutError:
                continue
