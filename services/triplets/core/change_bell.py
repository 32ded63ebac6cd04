"""Rung at each change, heard by all who wait: so that followers need not ask again and again."""

import asyncio


class ChangeBell:
    """One for a store and this process. Others' changes it does not hear: wait with a limit."""

    def __init__(self) -> None:
        self._rung = asyncio.Condition()

    async def ring(self) -> None:
        """Wakes all that wait now."""
        async with self._rung:
            self._rung.notify_all()

    async def wait(self, seconds: float) -> None:
        """Returns when it rings, or after so many seconds."""
        async with self._rung:
            try:
                async with asyncio.timeout(seconds):
                    await self._rung.wait()
            except TimeoutError:
                return
