"""Offline runs, written in a process of their own by a package that stands in for wandb."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from services.gateway.core.tracked_run import TrackedRun
from services.gateway.wandb import OfflineWandb

# Of the library's API what is called; it leaves what it was told, and what it could see.
PACKAGE = """
import json, os, pathlib

def Settings(**settings):
    return settings

class Run:
    def __init__(self, told):
        self.told = told | {"logged": [], "environment": dict(os.environ)}

    def log(self, values, step):
        self.told["logged"].append([step, values])

    def finish(self, exit_code):
        self.told["exit_code"] = exit_code
        pathlib.Path(self.told["dir"], "run.json").write_text(json.dumps(self.told))

def init(**told):
    if told["project"] == "refused":
        raise ValueError("no such project")
    return Run(told)
"""
RUN = TrackedRun(
    tenant="acme",
    run_id="ftjob-1-0",
    project="p",
    name="n",
    entity=None,
    tags=["a"],
    config={"n_epochs": 2},
    measured=[{"step": 4, "train_loss": 0.5}, {"step": 8, "train_loss": 0.25, "ndcg_at_10": 1.0}],
    succeeded=True,
)


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OfflineWandb:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "wandb.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setenv("TRINE_MESH_TOKEN", "hunter2")
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    return OfflineWandb(tmp_path / "runs")


def read(tmp_path: Path) -> dict[str, Any]:
    """What was written, in the one folder that is there."""
    (folder,) = (tmp_path / "runs" / "acme").iterdir()
    assert folder.name == RUN.run_id
    told: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return told


async def test_a_run_is_written_offline_and_knows_no_secret(
    tracker: OfflineWandb, tmp_path: Path
) -> None:
    assert tracker.installed
    await tracker.write(RUN)
    told = read(tmp_path)
    wanted = {"mode": "offline", "id": RUN.run_id, "project": "p", "name": "n", "entity": None}
    assert told.items() >= (wanted | {"tags": ["a"], "config": {"n_epochs": 2}}).items()
    assert told["logged"] == [
        [4, {"train_loss": 0.5}],
        [8, {"train_loss": 0.25, "ndcg_at_10": 1.0}],
    ]
    assert told["exit_code"] == 0
    assert told["environment"]["WANDB_MODE"] == "offline"
    assert "hunter2" not in json.dumps(told)


async def test_a_run_that_is_there_is_left_as_it_is(tracker: OfflineWandb, tmp_path: Path) -> None:
    await tracker.write(RUN)
    await tracker.write(dataclasses.replace(RUN, name="other"))
    assert read(tmp_path)["name"] == "n"


async def test_what_a_crash_has_left_is_begun_anew(tracker: OfflineWandb, tmp_path: Path) -> None:
    half = tmp_path / "runs" / "acme" / f".{RUN.run_id}"
    half.mkdir(parents=True)
    (half / "half").touch()
    await tracker.write(dataclasses.replace(RUN, succeeded=False))
    assert read(tmp_path)["exit_code"] == 1
    assert not (tmp_path / "runs" / "acme" / RUN.run_id / "half").exists()


async def test_what_the_library_refuses_leaves_nothing(
    tracker: OfflineWandb, tmp_path: Path
) -> None:
    assert not await tracker.write(dataclasses.replace(RUN, project="refused"))
    assert list((tmp_path / "runs" / "acme").iterdir()) == []


async def test_a_folder_that_cannot_be_written_to_is_no_error_of_others(
    tracker: OfflineWandb, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("no folder")
    assert not await tracker.write(RUN)
    (tmp_path / "runs").unlink()
    assert await tracker.write(RUN)
    assert read(tmp_path)["name"] == "n"


def test_without_the_library_none_can_be_written(
    tracker: OfflineWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert not tracker.installed
