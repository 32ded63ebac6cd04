"""Places between two effects where a test may kill the process, to see that nothing is lost there.

Nothing happens unless TRINE_CRASH names a file that asks for it. Each of its lines is the name of a
point and how many passings of it are left, as in "outbox.published:2"; the last one takes its line
out of the file and kills the process with SIGKILL. So a process that is started again lives on, or
dies at another of the points.

A point's name begins with the service that it belongs to, or with the part of the chassis that
several services share. Each name stands in one place.
"""

import os
import signal
import threading
from pathlib import Path

FILE = os.environ.get("TRINE_CRASH", "")
DEADLY = signal.SIGKILL
_one_at_a_time = threading.Lock()


def crashpoint(name: str) -> None:
    """Kills the process if a test has asked for that at this passing of this point."""
    if FILE:
        with _one_at_a_time:
            _pass(name, Path(FILE))


def _pass(name: str, file: Path) -> None:
    if not file.exists():
        return
    left = dict(line.split(":") for line in file.read_text().splitlines())
    if name not in left:
        return
    passings = int(left.pop(name)) - 1
    if passings:
        left[name] = str(passings)
    unfinished = file.with_suffix(".part")
    unfinished.write_text("".join(f"{point}:{count}\n" for point, count in left.items()))
    unfinished.replace(file)
    if not passings:
        os.kill(os.getpid(), DEADLY)
