"""Background work of a service; a failure that nobody expected ends the service.

A supervisor starts a dead process again; a process that lost half of its work looks healthy and is
not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

_log = structlog.get_logger()


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs endless coroutines beside the block; if one fails, so does the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def every(seconds: float, name: str, act: Callable[[], Awaitable[object]]) -> None:
    """Calls `act` again and again with pauses between; a failure is logged and tried again."""
    while True:
        try:
            await act()
        except Exception:
            _log.exception("periodic_work_failed", work=name)
        await asyncio.sleep(seconds)
