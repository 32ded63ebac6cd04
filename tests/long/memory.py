"""How much memory the processes of a mesh hold, looked at again and again."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 0.5
_PROC = Path("/proc")
_KIB = 1_024


class Memory:
    """The resident memory of named processes and of those that they start, in MiB.

    What is told of a name is told of the largest process under it.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = self._look()
        self._most = dict(self._before)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Looks on as long as the block lasts."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Of each name: at the beginning, at most, and now."""
        now = self._look()
        return [(name, self._before[name], self._most[name], now[name]) for name in self._pids]

    def growth(self) -> int:
        """By how much a process has grown at most."""
        return max(self._most[name] - self._before[name] for name in self._pids)

    async def _watch(self) -> None:
        while True:
            for name, held in self._look().items():
                self._most[name] = max(self._most[name], held)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> dict[str, int]:
        return {name: max(map(_resident, _family(pid))) for name, pid in self._pids.items()}


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children: list[int] = []
    with suppress(OSError):  # it has ended
        for file in (_PROC / str(pid) / "task").glob("*/children"):
            children += map(int, file.read_text().split())
    return [pid, *(each for child in children for each in _family(child))]


def _resident(pid: int) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // _KIB
    return 0
