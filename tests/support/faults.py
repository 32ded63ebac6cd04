"""What tests let go wrong."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

Unit = TypeVar("Unit")


class DeliberateError(Exception):
    """Raised by a test inside a unit of work."""


async def act_and_fail(
    opening: AbstractAsyncContextManager[Unit], act: Callable[[Unit], Awaitable[object]]
) -> None:
    """Acts in a unit that then fails."""
    async with opening as unit:
        await act(unit)
        raise DeliberateError
