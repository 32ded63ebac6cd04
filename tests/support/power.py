"""Power cuts: a server on a disk of its own, of which only what was written to it survives.

The disk is ext4 in a file. While the server stands still the file is copied: what the kernel had
not yet written is missing there, as after a power cut. Killing a process shows nothing of that.
"""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import asyncpg
import nats

from services.chassis.bus import STREAM, open_bus
from services.mesh import programs
from services.mesh.child import Child, ChildSpec
from services.mesh.home import Home, Secrets
from services.mesh.nats_users import mesh_url
from tests.support.infrastructure import READY_SECONDS_MAX, free_ports, prepare_home
from tests.support.stalls import standing_still

DISK_BYTES = 2 * 1024**3
"""The stream asks for a GiB of it; what is never written takes no space here."""
WRITERS = 8
Number: TypeAlias = int


def why_not() -> str:
    """Why disks cannot be mounted here; empty where they can."""
    if os.geteuid() != 0:
        return "mounting a disk needs root"
    missing = [name for name in ("mkfs.ext4", "mount", "losetup") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    found = subprocess.run(["losetup", "-f"], capture_output=True, check=False)  # noqa: S607  # root's path
    return "" if found.returncode == 0 else "there are no loop devices"


async def postgres_lost(
    folder: Path, load_seconds: float, settings: Sequence[str] = ()
) -> tuple[int, int]:
    """How many rows a PostgreSQL acknowledged before a power cut, and how many are lost.

    Args:
        folder: For the disks.
        load_seconds: How long rows are written.
        settings: Beyond those of the launcher, such as "fsync=off".
    """
    secrets, (port,) = Secrets(), free_ports(1)
    dsn = programs.postgres_dsn(port, secrets)
    more = [part for setting in settings for part in ("-c", setting)]

    def spec(home: Home) -> ChildSpec:
        made = programs.postgres(home, port, secrets)
        return replace(made, command=[*made.command, *more])

    async def load(acknowledged: list[Number]) -> None:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=WRITERS) as pool:
            await pool.execute("create table kept (number integer)")

            async def write(number: Number) -> None:
                await pool.execute("insert into kept values ($1)", number)

            await _write_on(write, acknowledged)

    async def kept() -> set[Number]:
        connection = await asyncpg.connect(dsn)
        try:
            return {row["number"] for row in await connection.fetch("select number from kept")}
        except asyncpg.UndefinedTableError:
            return set()
        finally:
            await connection.close()

    return await _lose_power(folder, spec, load, kept, load_seconds)


async def nats_lost(folder: Path, load_seconds: float, *, safe: bool = True) -> tuple[int, int]:
    """How many events a NATS server acknowledged before a power cut, and how many are lost.

    Args:
        folder: For the disks.
        load_seconds: How long events are written.
        safe: With the launcher's settings; else without sync_interval.
    """
    secrets, (port, monitor_port) = Secrets(), free_ports(2)
    url = mesh_url(f"127.0.0.1:{port}", secrets)

    def spec(home: Home) -> ChildSpec:
        made = programs.nats(home, port, monitor_port, secrets)
        if not safe:
            config = Path(made.command[-1])
            text = config.read_text()
            assert "sync_interval: always" in text
            config.write_text(text.replace("sync_interval: always", ""))
        return made

    async def load(acknowledged: list[Number]) -> None:
        async with open_bus(url) as bus:
            await bus.declare_stream()

            async def write(number: Number) -> None:
                await bus.publish(f"trine.events.v1.cut.{number}", b"{}", str(number))

            await _write_on(write, acknowledged)

    async def kept() -> set[Number]:
        client = await nats.connect(url)
        try:
            told = await client.jetstream().stream_info(STREAM, subjects_filter=">")
            return {int(subject.rpartition(".")[2]) for subject in told.state.subjects or {}}
        except nats.js.errors.NotFoundError:
            return set()
        finally:
            await client.close()

    return await _lose_power(folder, spec, load, kept, load_seconds)


async def _write_on(write: Callable[[Number], Awaitable[None]], acknowledged: list[Number]) -> None:
    numbers = itertools.count()

    async def go_on() -> None:
        for number in numbers:
            await write(number)
            acknowledged.append(number)

    await asyncio.gather(*(go_on() for _ in range(WRITERS)))


async def _lose_power(
    folder: Path,
    spec: Callable[[Home], ChildSpec],
    load: Callable[[list[Number]], Coroutine[None, None, None]],
    kept: Callable[[], Awaitable[set[Number]]],
    load_seconds: float,
) -> tuple[int, int]:
    image, copy = folder / "disk.img", folder / "copy.img"
    new_disk(image)
    acknowledged: list[Number] = []
    with mounted(image, folder / "disk") as place:
        child = Child(spec(prepare_home(place / "home")), lambda: None)
        try:
            await child.start()
            await child.until_ready(READY_SECONDS_MAX)
            _run("sync", "--file-system", place)  # the server has been there for a while
            writing = asyncio.create_task(load(acknowledged))
            await asyncio.sleep(load_seconds)
            assert not writing.done(), writing
            with standing_still(child.pid) as family:
                before = list(acknowledged)
                _run("cp", "--sparse=always", image, copy)
                for pid in family:
                    os.kill(pid, signal.SIGKILL)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        finally:
            await child.stop()
    with mounted(copy, folder / "disk") as place:
        child = Child(spec(Home(place / "home")), lambda: None)
        try:
            await child.start()
            await child.until_ready(READY_SECONDS_MAX)
            found = await kept()
        finally:
            await child.stop()
    return len(before), len(set(before) - found)


def new_disk(image: Path) -> None:
    """Makes an empty ext4 file system in a file."""
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    _run("mkfs.ext4", "-q", "-m", "0", image)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mounts an image for the length of a block."""
    place.mkdir(exist_ok=True)
    # The journal is not written for its age alone while the image is copied.
    _run("mount", "-o", "loop,commit=300", image, place)
    try:
        yield place
    finally:
        _run("umount", "--lazy", place)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
