"""Trying a head in another process before this one opens it (see probe_process.py)."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import IO

from services.serving.core.errors import HeadRefusedError
from services.serving.probe_process import (
    HEAD,
    MAP,
    PASSED,
    SECONDS_MAX,
    read_frames,
    write_frames,
)

PROGRAM = "services.serving.probe_process"
CPU_SECONDS_MAX = 10
ANSWER_SECONDS_MAX = SECONDS_MAX + 15.0
"""Beyond the time for one head: starting, and handing its files over."""


class Probe:
    """One such process, started when it is first needed. May be asked by several threads."""

    def __init__(self, cpu_seconds: int = CPU_SECONDS_MAX) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="trine-probe-")
        os.chmod(self._folder.name, 0o500)  # noqa: PTH101

    def start(self) -> None:
        """Starts the process, so that the first head need not wait for it."""
        with self._lock:
            self._running()

    def try_head(self, parts: Sequence[bytes], golden: bytes) -> None:
        """Opens and runs the parts of a head.

        Raises:
            HeadRefusedError: they cannot be run within the limits, or give something else than
            their golden vectors.
        """
        self._ask([HEAD, b"", *parts, golden])

    def try_map(self, query_map: bytes, columns_count: int, golden: bytes) -> None:
        """Opens and runs the map of a model.

        Raises:
            HeadRefusedError: as for a head.
        """
        self._ask([MAP, b"%d" % columns_count, query_map, golden])

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()
            self._folder.cleanup()

    def _ask(self, frames: Sequence[bytes]) -> None:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            watchdog = threading.Timer(ANSWER_SECONDS_MAX, process.kill)
            watchdog.start()
            try:
                said = _exchange(process.stdin, process.stdout, frames)
            finally:
                watchdog.cancel()
            if said is None:
                self._end()
                raise HeadRefusedError("cannot be tried: the process for it has ended")
        if said != PASSED:
            raise HeadRefusedError(said.decode(errors="replace"))

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            paths = [os.path.abspath(path) for path in sys.path if path]  # noqa: PTH100
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", PROGRAM, str(self._cpu_seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self._folder.name,
                # None of this process' secrets; one thread, or it could not fork.
                env={
                    "PYTHONPATH": os.pathsep.join(paths),
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
                start_new_session=True,
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _exchange(asking: IO[bytes], answers: IO[bytes], frames: Sequence[bytes]) -> bytes | None:
    try:
        write_frames(asking, frames)
    except BrokenPipeError:
        return None
    answer = read_frames(answers)
    return None if answer is None else answer[0]
