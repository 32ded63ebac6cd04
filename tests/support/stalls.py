"""Processes that stand still, as on a machine that is out of breath."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STILL_SECONDS_MAX = 10.0


@contextmanager
def standing_still(root: int) -> Iterator[list[int]]:
    """A process and those that it has started stand still for the length of a block.

    The block begins once none of them is in the middle of a write.
    """
    os.kill(root, signal.SIGSTOP)
    family = [root, *_children(root)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STILL_SECONDS_MAX
    while not all(_stands(pid) for pid in family):
        assert time.monotonic() < deadline, "it does not stand still"
        time.sleep(0.01)
    try:
        yield family
    finally:
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stands(pid: int) -> bool:
    """Whether all threads of a process are stopped."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((one / "stat").read_text().rpartition(") ")[2][0] in "TtZ" for one in threads)
