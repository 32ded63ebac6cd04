"""Where heads are tried before serving opens them; a program of its own, started by probe.py.

A process without threads and secrets, which loads once what it takes to open a head. For each head
it forks, and what it forks may use so much memory and processor time, write no file, and stands in
an empty folder: whatever a head does there ends with it. Standard input and output carry frames.
"""

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

from safetensors.numpy import load

from services.serving.core.errors import HeadRefusedError
from services.serving.onnx import OnnxScorers, OnnxTextMap, check_batches, check_golden

SECONDS_MAX = 30.0
"""A process that waits for a core is given time; one that computes has less."""
MEMORY_BYTES = 256 * 1024**2
MEMORY_FACTOR = 4
"""Opening a head may take so many times its own size beyond that."""
PASSED = b"passed"
HEAD, MAP = b"head", b"map"
_SAID_BYTES_MAX = 1_000
_CHUNK_BYTES = 4_096


def write_frames(file: IO[bytes], frames: Sequence[bytes]) -> None:
    """Writes how many frames come, and each behind its length."""
    file.write(len(frames).to_bytes(4, "little"))
    for frame in frames:
        file.write(len(frame).to_bytes(8, "little"))
        file.write(frame)
    file.flush()


def read_frames(file: IO[bytes]) -> list[bytes] | None:
    """Reads frames; None at the end of the file."""
    count = file.read(4)
    if len(count) < 4:
        return None
    return [file.read(int.from_bytes(file.read(8), "little")) for _ in range(count[0])]


def main(cpu_seconds: int) -> None:
    """Tries one head after another until nobody asks any more."""
    if sys.platform == "linux":
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "what has threads must not fork"
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while (asked := read_frames(sys.stdin.buffer)) is not None:
        write_frames(answers, [_try_apart(asked, cpu_seconds)])


def _try_apart(asked: list[bytes], cpu_seconds: int) -> bytes:
    """What a fork says of a head, or how it has ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_tried(writing, asked, cpu_seconds)
    os.close(writing)
    said = _read_all(reading, time.monotonic() + SECONDS_MAX)
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said is None:
        return b"takes longer than %d seconds to try" % SECONDS_MAX
    return said or b"ends the process that tries it: %d" % status


def _read_all(descriptor: int, deadline: float) -> bytes | None:
    """What a fork writes until it ends; None if it does not end."""
    said = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            return said
        said += chunk
    return None


def _be_tried(writing: int, asked: list[bytes], cpu_seconds: int) -> NoReturn:
    said = b""
    try:
        _limit(MEMORY_BYTES + MEMORY_FACTOR * sum(map(len, asked)), cpu_seconds)
        _try(asked)
        said = PASSED
    except HeadRefusedError as error:
        said = str(error).encode()[:_SAID_BYTES_MAX]
    except BaseException as error:  # a fork must not go on as its parent
        said = f"cannot be tried: {type(error).__name__}".encode()
    finally:
        os.write(writing, said)
        os._exit(0)


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the kernel does not keep to it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _try(asked: list[bytes]) -> None:
    kind, columns_count, *parts, golden = asked
    if kind == MAP:
        OnnxTextMap(parts[0], int(columns_count)).check(load(golden))
        return
    scorers, arrays = OnnxScorers(*parts), load(golden)
    check_golden(scorers, arrays)
    check_batches(scorers, arrays)


if __name__ == "__main__":
    main(int(sys.argv[1]))
