"""Offline runs of Weights & Biases, each written by a process of its own.

The library starts threads and a server, and reads what is around it. So it works in a process that
ends with the run, with an environment that knows no secret of the mesh, and offline: what it leaves
is a folder that people may send on with `wandb sync`, or not.
"""

import asyncio
import dataclasses
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog

from services.gateway.core.tracked_run import TrackedRun

SECONDS_MAX = 120.0
COMPLAINT_CHARACTERS_MAX = 500
_PACKAGE = "wandb"

_log = structlog.get_logger()


class OfflineWandb:
    """A folder of runs, by tenant and run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def installed(self) -> bool:
        """Whether the library is there."""
        return importlib.util.find_spec(_PACKAGE) is not None

    async def write(self, tracked: TrackedRun) -> bool:
        """Writes a run, unless it is there already; what goes wrong is logged."""
        target = self._folder / tracked.tenant / tracked.run_id
        if target.exists():
            return True
        unfinished = target.with_name(f".{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(parents=True)
            complaint = await _write_apart(unfinished, json.dumps(dataclasses.asdict(tracked)))
            if complaint is None:
                unfinished.rename(target)
                return True
        except OSError as error:  # a disk that is full, or no room for a process
            complaint = repr(error)
        shutil.rmtree(unfinished, ignore_errors=True)
        _log.warning("wandb_failed", run_id=tracked.run_id, complaint=complaint)
        return False


async def _write_apart(folder: Path, content: str) -> str | None:
    """Has a process write the run; returns what it complains of, if it fails."""
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, str(folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(home),
        )
        try:
            async with asyncio.timeout(SECONDS_MAX):
                _, told = await process.communicate(content.encode())
        except TimeoutError:
            return f"it took more than {SECONDS_MAX:.0f} seconds"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode == 0:
        return None
    return told.decode(errors="replace")[-COMPLAINT_CHARACTERS_MAX:]


def _environment(home: str) -> dict[str, str]:
    """What the library may know: nothing of the mesh, and nobody to tell."""
    return {
        "HOME": home,
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TMPDIR": home,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": "offline",
    }


def write_run(folder: str, content: dict[str, Any]) -> None:
    """Writes one run into a folder. Machine, packages and code are left out."""
    import wandb  # noqa: PLC0415  # an extra, and in this process alone

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    run = wandb.init(
        mode="offline",
        dir=folder,
        id=content["run_id"],
        project=content["project"],
        name=content["name"],
        entity=content["entity"],
        tags=content["tags"],
        config=content["config"],
        settings=settings,
    )
    for measured in content["measured"]:
        values = dict(measured)
        run.log(values, step=values.pop("step"))
    run.finish(exit_code=0 if content["succeeded"] else 1)


if __name__ == "__main__":
    write_run(sys.argv[1], json.load(sys.stdin))
