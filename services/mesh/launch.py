"""Bringing a mesh up and down from another process."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from services.mesh.child import MeshStartError
from services.mesh.home import Home
from services.mesh.programs import python_module
from services.mesh.supervisor import ALREADY_RUNNING

UP_SECONDS_MAX = 90.0
DOWN_SECONDS_MAX = 40.0
_LOG_TAIL_LINES = 5


def bring_up(home: Home) -> tuple[dict[str, Any], bool]:
    """Starts a mesh and returns what it tells about itself, and whether it was running before.

    Raises:
        MeshStartError: it does not come up.
    """
    running_before = home.is_running()
    if not running_before:
        home.mesh_file.unlink(missing_ok=True)  # of a supervisor that was killed
    pid = None if running_before else _start_supervisor(home)
    deadline = time.monotonic() + UP_SECONDS_MAX
    while time.monotonic() < deadline:
        mesh = home.read_mesh()
        if mesh is not None and home.is_running():
            return mesh, running_before
        status = None if pid is None else _exit_status(pid)
        if status == ALREADY_RUNNING:  # someone was faster
            running_before, pid = True, None
        elif status is not None:
            raise MeshStartError(f"the mesh did not come up: {_tail(home.log('supervisor'))}")
        time.sleep(0.05)
    raise MeshStartError(f"the mesh takes too long to come up; see {home.logs}")


def bring_down(home: Home) -> bool:
    """Ends a mesh, also one that is still starting; False if none was running.

    Returns when nothing of it is left.
    """
    supervisor = home.supervisor()
    if supervisor is None:
        home.mesh_file.unlink(missing_ok=True)  # of a supervisor that was killed
        return False
    os.kill(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS_MAX
    while home.is_running():
        if time.monotonic() > deadline:
            raise MeshStartError(f"the supervisor {supervisor} does not end")
        time.sleep(0.05)
    return True


def _start_supervisor(home: Home) -> int:
    """Starts the supervisor as a process that outlives this one, and returns its id."""
    home.logs.mkdir(parents=True, exist_ok=True)
    command = python_module("services.mesh.supervisor")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        command[0],
        command,
        {
            **os.environ,
            "TRINE_HOME": str(home.folder),
            "GRPC_ENABLE_FORK_SUPPORT": "0",  # children are executed anew, not forked copies
        },
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(home.log("supervisor")), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,  # Ctrl-C in this terminal is not meant for the mesh
    )


def _exit_status(pid: int) -> int | None:
    """How a child of ours has ended; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return "\n".join(lines[-_LOG_TAIL_LINES:])
