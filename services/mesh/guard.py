"""Kills the mesh's processes when their supervisor dies, where the kernel does not do it (macOS).

python -m services.mesh.guard: reads lines "<pid> <signal>" from standard input, a pipe that the
supervisor holds. The pipe's end is the supervisor's end, however it came.
"""

import contextlib
import os
import sys
from typing import TextIO


def watch(lines: TextIO) -> None:
    """Remembers pids until the pipe ends, then signals those that are left."""
    signals: dict[int, int] = {}
    for line in lines:
        pid, number = line.split()
        signals[int(pid)] = int(number)
    for left, orphan_signal in signals.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, orphan_signal)


if __name__ == "__main__":
    watch(sys.stdin)
