"""A supervisor whose services start at once: python -m tests.support.impatient.

They are forked from one process that has imported everything, which takes seconds; and a service
that dies is started again without a pause. Everything else is as the launcher has it.
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
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from services.chassis import crashpoint
from services.mesh import child, supervisor
from services.mesh.home import SERVICES, Home

_MESSAGE_BYTES_MAX = 65_536

_plain_start = child.Child.start


class Forked:
    """A process that another one has forked, as asyncio shows those of its own.

    It holds one end of a connection for as long as it lives.
    """

    def __init__(self, pid: int, ends: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ends = ends

    async def wait(self) -> int:
        """Waits for its end."""
        with contextlib.suppress(ConnectionError):
            while await self._ends[0].read(1):
                pass
        self.returncode = -1
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it by force."""
        self.send_signal(signal.SIGKILL)


async def start(self: child.Child, address: str) -> None:
    """In place of Child.start."""
    if self.spec.name not in SERVICES:
        await _plain_start(self)
        return
    reader, writer = await asyncio.open_unix_connection(address)
    wish = [self.spec.name, str(self.spec.log), dict(self.spec.environment)]
    writer.write(json.dumps(wish).encode())
    writer.write_eof()
    pid = int(await reader.readline())
    self._process = Forked(pid, (reader, writer))  # type: ignore[assignment]  # what of it is used is there
    self._on_change()


def nursery(listening: socket.socket) -> None:
    """Imports what services need, and forks one at each request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork
    wirings = {name: importlib.import_module(f"services.{name}.wiring") for name in SERVICES}
    gazetteer = wirings["triplets"].GeoNamesGazetteer()  # a second, at each start
    setattr(wirings["triplets"], "GeoNamesGazetteer", lambda: gazetteer)  # noqa: B010
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


def _live(name: str, log: str, environment: dict[str, str]) -> None:
    """A service's life, in its process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent = child._die_with_parent(signal.SIGKILL)
    if die_with_parent is not None:
        die_with_parent()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    crashpoint._FILE = environment.get("TRINE_CRASH", "")
    status: Any = 1
    try:
        runpy.run_module(f"services.{name}", run_name="__main__")
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Runs the mesh of $TRINE_HOME."""
    address = str(Path(tempfile.mkdtemp()) / "nursery")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    supervisor_pid = os.getpid()
    if not os.fork():
        die_with_parent = child._die_with_parent(signal.SIGKILL)
        if die_with_parent is not None:
            die_with_parent()
        if os.getppid() == supervisor_pid:
            nursery(listening)
        os._exit(1)
    listening.close()
    forks = patch.object(child.Child, "start", lambda self: start(self, address))
    with forks, patch.object(child, "BACKOFF_SECONDS", (0.0,)):
        supervisor.main(Home.from_environment())


if __name__ == "__main__":
    main()
