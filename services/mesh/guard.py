"""Kills the mesh's processes when their supervisor dies, where the kernel does not do it (macOS).

python -m services.mesh.guard: reads lines "<pid>:<signal> <pid>:<signal> ..." from standard input,
a pipe that the supervisor holds. Each line is the whole list as it is now: a process that has ended
is forgotten before another can get its id. The pipe's end is the supervisor's end, however it came.
"""

import contextlib
import os
import sys
from typing import TextIO


def watch(lines: TextIO) -> None:
    """Remembers the last list until the pipe ends, then signals those on it."""
    last = ""
    for line in lines:
        last = line
    for entry in last.split():
        pid, number = entry.split(":")
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), int(number))


if __name__ == "__main__":
    watch(sys.stdin)
