"""Trainer processes that start at once and write down every step: python -m tests.support.trainers.

Their recipe is short, and whatever they have learned is told to the scheduler in milliseconds.
"""

import dataclasses
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from services.trainer.core import train_run
from services.trainer.core.recipe import (
    DEFAULT_FILE_RECIPE,
    DEFAULT_RECIPE,
    CrossRecipe,
    LightRecipe,
    QueryMapRecipe,
)
from tests.support import nursery
from tests.support.server import MESH_TOKEN, free_address
from tests.support.signatures import PRIVATE_KEY, PUBLIC_KEY

RECIPE = dataclasses.replace(
    DEFAULT_RECIPE,
    light=LightRecipe(rounds=2, variance_scales=(1.0,), folds=2),
    cross=CrossRecipe(epochs=2),
    query_map=QueryMapRecipe(epochs=2),
)
FILE_RECIPE = dataclasses.replace(DEFAULT_FILE_RECIPE, epochs=4)


class Trainers:
    """Starts trainers that work for one scheduler."""

    def __init__(self, nursery_address: str, folder: Path, addresses: Mapping[str, str]) -> None:
        self._nursery_address = nursery_address
        self._folder = folder
        self._environment = {
            **addresses,
            "TRINE_MESH_TOKEN": MESH_TOKEN,
            "TRINE_ARTIFACTS_URL": str(folder / "artifacts"),
            "TRINE_BUNDLE_SIGNING_KEY": PRIVATE_KEY,
            "TRINE_BUNDLE_PUBLIC_KEY": PUBLIC_KEY,
            "TRINE_DEVICE": "cpu",
        }
        self._started: list[nursery.Forked] = []

    async def start(
        self, point: str = "", passing: int = 1, *, stalls: bool = False
    ) -> nursery.Forked:
        """Starts a trainer that is to die at a passing of a point, if one is named, or to stall."""
        plan = self._folder / f"deaths-{len(self._started)}"
        plan.write_text(f"{point}:{passing}\n" if point else "")
        environment = {
            **self._environment,
            **({nursery.STALLS: "yes"} if stalls else {}),
            "TRINE_CRASH": str(plan),
            "TRINE_GRPC_ADDRESS": free_address(),
            "TRINE_METRICS_ADDRESS": free_address(),
        }
        log = self._folder / "trainers.log"
        trainer = await nursery.fork(self._nursery_address, "trainer", log, environment)
        self._started.append(trainer)
        return trainer

    async def all_met(self) -> bool:
        """Whether each has come to where it was to die."""
        return not any(plan.read_text() for plan in self._folder.glob("deaths-*"))

    async def end(self) -> None:
        """Ends all of them."""
        for trainer in self._started:
            trainer.kill()
            await trainer.wait()


@contextmanager
def raising_trainers(folder: Path) -> Iterator[str]:
    """A nursery of trainers, as its address."""
    address = str(folder / "nursery")
    command = [sys.executable, "-m", "tests.support.trainers", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), "the nursery does not start"
            yield address
        finally:
            process.kill()


def main(address: str) -> None:
    """The nursery's life."""
    wiring: Any = nursery.import_wirings(["trainer"])["trainer"]
    from services.trainer.learning import file_learner, journal  # noqa: PLC0415  # torch

    learner, of_files = wiring.TorchLearner, wiring.TorchFileLearner
    learner("cpu")  # what torch imports when it is first used
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    print("ready", flush=True)  # noqa: T201  # to whoever has started it
    with (
        patch.object(wiring, "TorchLearner", lambda device: learner(device, RECIPE)),
        patch.object(wiring, "TorchFileLearner", lambda device: of_files(device, FILE_RECIPE)),
        patch.object(journal, "CHECKPOINT_SECONDS", 0.0),
        patch.object(file_learner, "CHECKPOINT_SECONDS", 0.0),
        patch.object(train_run, "HEARTBEAT_SECONDS_MAX", 0.01),
    ):
        nursery.serve(listening)


if __name__ == "__main__":
    main(sys.argv[1])
