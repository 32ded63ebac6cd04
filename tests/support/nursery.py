"""Processes of services that start at once: forked from one that has imported everything.

Importing takes a service seconds; what is forked has done so already. A child holds one end of a
connection for as long as it lives: whoever asked for it sees its end there.
"""

import asyncio
import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from services.chassis import crashpoint
from services.mesh.child import _die_with_parent

_MESSAGE_BYTES_MAX = 65_536
STALLS = "STALLS"
"""In the environment of a child that, where it would die, is to stand still instead."""


class Forked:
    """A process that another one has forked, as asyncio shows those of its own."""

    def __init__(self, pid: int, ends: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ends = ends

    async def wait(self) -> int:
        """Waits for its end."""
        with contextlib.suppress(ConnectionError):
            while await self._ends[0].read(1):
                pass
        self._ends[1].close()
        self.returncode = -1
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it by force."""
        self.send_signal(signal.SIGKILL)


async def fork(address: str, service: str, log: Path, environment: Mapping[str, str]) -> Forked:
    """Asks the nursery at an address for a process of a service."""
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(json.dumps([service, str(log), dict(environment)]).encode())
    writer.write_eof()
    return Forked(int(await reader.readline()), (reader, writer))


def import_wirings(services: Sequence[str]) -> dict[str, ModuleType]:
    """Imports what services need, without a thread: threads do not survive a fork."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return {name: importlib.import_module(f"services.{name}.wiring") for name in services}


def serve(listening: socket.socket) -> None:
    """Forks a process at each request, until killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks here how they ended
    while True:
        connection, _ = listening.accept()
        content = b""
        while part := connection.recv(_MESSAGE_BYTES_MAX):
            content += part
        pid = os.fork()
        if not pid:
            listening.close()
            _live(*json.loads(content))
        connection.sendall(f"{pid}\n".encode())
        connection.close()


def die_with_parent() -> None:
    """Has the kernel end this process when its parent ends."""
    ask_kernel = _die_with_parent(signal.SIGKILL)
    if ask_kernel is not None:
        ask_kernel()


def _live(service: str, log: str, environment: dict[str, str]) -> None:
    """A service's life, in its process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    crashpoint.FILE = environment.get("TRINE_CRASH", "")
    if STALLS in environment:
        crashpoint.DEADLY = signal.SIGSTOP
    status: Any = 1
    try:
        runpy.run_module(f"services.{service}", run_name="__main__")
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)
