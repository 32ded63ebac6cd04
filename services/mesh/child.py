"""One process of the mesh: started, watched, started again, and never left behind.

On Linux the kernel kills a child whose parent is gone (PR_SET_PDEATHSIG). Elsewhere a guard process
does: see guard.py.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 10.0
"""A child that has run for so long starts with the shortest pause again."""

RESTARTS_BEFORE_READY_MAX = 5
LOOK_SECONDS = 1.0
BEYOND_HELP_SECONDS = 5.0
"""Longer than a start takes, during which a server may say the same."""


class MeshStartError(Exception):
    """A part of the mesh does not come up; the message says which and where its log is."""


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """How to run a process and how to tell that it is ready."""

    name: str
    command: list[str]
    is_ready: Callable[[], Awaitable[bool]]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the child gets when its parent dies."""
    is_beyond_help: Callable[[], Awaitable[bool]] | None = None
    """Whether the process says of itself that it cannot go on: only another start helps."""


class Child:
    """A supervised process."""

    def __init__(self, spec: ChildSpec, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self.restarts_count = 0
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Process id, 0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Starts the process."""
        spec = self.spec
        with spec.log.open("ab" if self._process else "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**_inherited(), **spec.environment},
                preexec_fn=_die_with_parent(spec.orphan_signal),
            )
        self._on_change()

    async def until_ready(self, seconds_max: float) -> None:
        """Waits until the process answers.

        Raises:
            MeshStartError: it takes too long.
        """
        deadline = time.monotonic() + seconds_max
        while not await self.spec.is_ready():  # another process cannot set an event
            if self.restarts_count >= RESTARTS_BEFORE_READY_MAX:
                raise MeshStartError(f"{self.spec.name} keeps ending; see {self.spec.log}")
            if time.monotonic() > deadline:
                raise MeshStartError(f"{self.spec.name} is not ready; see {self.spec.log}")
            await asyncio.sleep(0.05)

    async def supervise(self) -> None:
        """Starts the process again whenever it ends, with growing pauses."""
        failures = 0
        while True:
            started = time.monotonic()
            if self._process is not None:
                await self._process.wait()
            if self._stopping:
                return
            self._on_change()
            failures = 0 if time.monotonic() - started > STEADY_SECONDS else failures
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            if self._stopping:
                return
            failures += 1
            self.restarts_count += 1
            # The machine may be out of memory, processes or disk for a while: that is one more end.
            with contextlib.suppress(OSError):
                await self.start()

    async def look_after(self) -> None:
        """Ends a process that has been beyond help for a while; `supervise` starts the next."""
        ask = self.spec.is_beyond_help
        since = time.monotonic()
        while ask is not None:
            await asyncio.sleep(LOOK_SECONDS)
            is_beyond_help = False
            with contextlib.suppress(OSError):  # nobody can say so: its folder may be gone
                is_beyond_help = bool(self.pid) and await ask()
            if not is_beyond_help:
                since = time.monotonic()
            elif time.monotonic() - since > BEYOND_HELP_SECONDS and self._process is not None:
                self._process.kill()
                since = time.monotonic()

    async def stop(self, seconds_max: float = 10.0) -> None:
        """Ends the process, by force if it does not listen."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(seconds_max):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _inherited() -> dict[str, str]:
    """The supervisor's environment without its own settings: children are told theirs."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TRINE_")}


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))

    return ask_kernel
