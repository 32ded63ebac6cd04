"""A disk that is full for a while, under all that a mesh keeps: a small tmpfs, which needs root."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg

from services.chassis.bus import PublishError, open_bus
from services.mesh.nats_users import mesh_url
from tests.support.mesh import Mesh, run_async

FULL_SECONDS = 15.0
DISK_BYTES = 2 * 1024**3
"""The stream asks for a GiB of it."""
EVENTS_REFUSED_MAX = 100
SEGMENTS = 8
"""Of PostgreSQL's log: more than it has ready."""
_BLOCK_BYTES = 4096


def why_not() -> str:
    """Why there is no small disk to be had here; empty where there is."""
    if os.geteuid() != 0:
        return "mounting a disk needs root"
    return "" if shutil.which("mount") else "mount is not installed"


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Mounts a small disk for the length of a block."""
    options = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "trine", place], check=True)  # noqa: S607  # root's path
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)  # noqa: S607


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Leaves no block of a disk free for the length of a block."""
    ballast = place / "ballast"
    size, end = DISK_BYTES, 0
    with ballast.open("wb") as file:
        while size >= _BLOCK_BYTES:
            try:
                os.posix_fallocate(file.fileno(), end, size)
                end += size
            except OSError:
                size //= 2
    try:
        yield
    finally:
        ballast.unlink()


def fill_disk(place: Path) -> Callable[[Mesh], None]:
    """The disk of a mesh is full, while PostgreSQL and NATS have to write on."""

    def happen(mesh: Mesh) -> None:
        until = time.monotonic() + FULL_SECONDS
        with filled(place):
            assert run_async(_write_events(mesh)), "NATS was not hit"
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                run_async(_switch_logs(mesh))
            time.sleep(max(0.0, until - time.monotonic()))

    return happen


async def _write_events(mesh: Mesh) -> bool:
    """Fills what room NATS has left; returns whether it refused an event at last."""
    address = mesh.told["nats"].rpartition("@")[2]
    async with open_bus(mesh_url(address, mesh.home.read_secrets())) as bus:
        for number in range(EVENTS_REFUSED_MAX):
            try:
                await bus.publish("trine.events.v1.ballast", b" " * 10_000, f"ballast-{number}")
            except PublishError:
                return True
    return False


async def _switch_logs(mesh: Mesh) -> None:
    """Has PostgreSQL begin new segments of its log, for which there is no room."""
    connection = await asyncpg.connect(mesh.told["postgres"], timeout=2)
    try:
        for _ in range(SEGMENTS):
            await connection.execute("create table ballast (a text); drop table ballast")
            await connection.execute("select pg_switch_wal()", timeout=5)
    finally:
        connection.terminate()
