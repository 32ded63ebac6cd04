"""Watching runs: each run that is watched is read again and again, once for all its watchers.

Reading is what is simplest and right: a run changes in several processes, a watcher needs its
newest state and not each of its changes, and one read serves a thousand watchers.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.scheduler.core.errors import RunNotFoundError, WatchersExhaustedError
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.run import ACTIVE, Run

READ_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
"""A silent stream looks dead to what stands between: the run is sent again."""
WATCHERS_MAX = 1_000
TENANT_WATCHERS_MAX = 100

Key = tuple[str, str]


@dataclass
class _Watched:
    """One run and those who watch it."""

    run: Run
    reading: "asyncio.Task[None] | None" = None
    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    def tell(self) -> None:
        """Wakes all that wait now."""
        self.changed.set()
        self.changed = asyncio.Event()


class RunWatches:
    """All runs that are watched in this process."""

    def __init__(
        self,
        store: SchedulerStore,
        read_seconds: float = READ_SECONDS,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        self._store = store
        self._seconds = (read_seconds, keep_alive_seconds)
        self._watched: dict[Key, _Watched] = {}

    @property
    def watchers_count(self) -> int:
        """How many watch now."""
        return sum(watched.watchers for watched in self._watched.values())

    async def watch(self, tenant: str, run_id: str) -> AsyncGenerator[Run, None]:
        """Yields the run now, after changes, now and then without any, and at its end.

        Raises:
            RunNotFoundError: there is no such run.
            WatchersExhaustedError: too many watch already.
        """
        run = await self._store.read_run(tenant, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        with self._join((tenant, run_id), run) as watched:
            while True:
                run = watched.run
                yield run
                if run.state not in ACTIVE:
                    return
                await self._wait(watched, run)

    async def _wait(self, watched: _Watched, seen: Run) -> None:
        if watched.run == seen and watched.error is None:
            try:
                async with asyncio.timeout(self._seconds[1]):
                    await watched.changed.wait()
            except TimeoutError:
                return
        if watched.error is not None:
            raise watched.error

    @contextmanager
    def _join(self, key: Key, run: Run) -> Iterator[_Watched]:
        of_tenant = sum(w.watchers for k, w in self._watched.items() if k[0] == key[0])
        if of_tenant >= TENANT_WATCHERS_MAX:
            raise WatchersExhaustedError(TENANT_WATCHERS_MAX)
        if self.watchers_count >= WATCHERS_MAX:
            raise WatchersExhaustedError(WATCHERS_MAX)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = _Watched(run)
            watched.reading = asyncio.create_task(self._read(key, watched))
        watched.watchers += 1
        try:
            yield watched
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                self._forget(key, watched)

    def _forget(self, key: Key, watched: _Watched) -> None:
        if self._watched.get(key) is watched:
            del self._watched[key]
        if watched.reading is not None:
            watched.reading.cancel()

    async def _read(self, key: Key, watched: _Watched) -> None:
        try:
            while watched.run.state in ACTIVE:
                await asyncio.sleep(self._seconds[0])
                run = await self._store.read_run(*key)
                assert run is not None, "runs are never deleted"
                if run != watched.run:
                    watched.run = run
                    watched.tell()
        except Exception as error:  # whatever it is, watchers end with it and may come again
            watched.error = error
            watched.tell()
        if self._watched.get(key) is watched:
            del self._watched[key]  # who comes now reads anew
