"""An attempt at a run from files: what is told of files and epochs, and what ends it."""

import asyncio
import dataclasses

import numpy as np
import pytest

from services.trainer.core.errors import RunCancelledError, RunInvalidError, RunPausedError
from services.trainer.core.ports import (
    BaseModel,
    Directive,
    FileWish,
    Hyperparameters,
    LearnedModel,
    LeasedRun,
)
from services.trainer.core.train_file_run import train_file_run
from services.trainer.core.watch import LossPoint, Watch
from services.trainer.jobs import Trainer
from tests.support.attempts import (
    DATASET,
    LEARNED,
    MODEL,
    SNAPSHOT,
    WAIT_SECONDS_MAX,
    MemoryHeads,
    MemoryScheduler,
    MemorySnapshots,
    Script,
    ScriptedLearner,
    leased,
)

WISH = FileWish(
    training_file_digest="1" * 64,
    validation_file_digest="",
    method="",
    hyperparameters=Hyperparameters(n_epochs=2),
)
NAME = "ft:trine-general:acme::one"
LEARNED_MODEL = LearnedModel(
    files=MODEL,
    recipe={"seed": 11},
    evaluation=dataclasses.replace(LEARNED.evaluation, seekers=np.zeros(0, np.int32)),
    result_file=b"step,train_loss\n",
    trained_tokens_count=200,
    hyperparameters=Hyperparameters(n_epochs=2, batch_size=32, learning_rate_multiplier=1.0),
)


def wished(**changes: object) -> LeasedRun:
    return leased(domain="", head=NAME, files=WISH, **changes)


def epoch(step: int) -> LossPoint:
    return LossPoint("embedding", step, 1 / step, 0.5, 0.25)


class Learner:
    """Does what the script says and gives a model."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.given: list[tuple[bytes, BaseModel | None, bytes | None, FileWish, int]] = []

    def learn(
        self,
        snapshot: bytes,
        base: BaseModel | None,
        checkpoint: bytes | None,
        wish: FileWish,
        *,
        seed: int,
        watch: Watch,
    ) -> LearnedModel:
        self.given.append((snapshot, base, checkpoint, wish, seed))
        self._script(watch)
        return LEARNED_MODEL


class World:
    """A trainer's surroundings."""

    def __init__(self) -> None:
        self.scheduler = MemoryScheduler()
        self.store = MemoryHeads()
        self.snapshots = MemorySnapshots(self.store)
        self.learner = Learner(lambda _: None)
        self.warnings: list[str] = []

    async def train(self, script: Script = lambda _: None, run: LeasedRun | None = None) -> str:
        """Carries a run out."""
        self.learner = Learner(script)
        around = (self.scheduler, self.snapshots, self.store)
        run = run or wished()
        return await train_file_run(
            run, *around, self.learner, warn=lambda event, _: self.warnings.append(event)
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_goes_from_files_to_a_model_and_its_outcome(world: World) -> None:
    def script(watch: Watch) -> None:
        for step in (4, 8):
            watch.add_point(epoch(step))
            watch.offer_model(epoch(step), MODEL)

    assert await world.train(script) == "promoted"
    assert world.learner.given == [(SNAPSHOT, None, None, WISH, 11)]
    names = [f"{NAME}:ckpt-step-4", f"{NAME}:ckpt-step-8"]
    assert sorted(world.store.models) == sorted([NAME, *names])
    told = [model.point.step for report in world.scheduler.reports for model in report.models]
    assert told == [4, 8]
    assert world.scheduler.reports[-1].dataset == DATASET
    (outcome,) = world.scheduler.outcomes
    assert outcome is not None
    assert world.store.contents[outcome.result_file_digest] == b"step,train_loss\n"
    assert (outcome.result_file_size_bytes, outcome.trained_tokens_count) == (16, 200)


async def test_a_later_attempt_goes_on_from_snapshot_checkpoint_and_base(world: World) -> None:
    snapshot = await world.store.write(b"older snapshot")
    checkpoint = await world.store.write(b"checkpoint")
    base = BaseModel(query_map=b"base", encoder="test", dim=8, columns=())
    world.store.bases["b" * 64] = base
    run = wished(
        snapshot_digest=snapshot,
        checkpoint_digest=checkpoint,
        incumbent="ft:base",
        incumbent_manifest_digest="b" * 64,
    )
    await world.train(run=run)
    assert world.learner.given == [(b"older snapshot", base, b"checkpoint", WISH, 11)]
    assert world.snapshots.created == []


async def test_a_pause_stores_models_and_checkpoint_and_gives_the_run_back(world: World) -> None:
    def script(watch: Watch) -> None:
        world.scheduler.directive = Directive.PAUSE
        world.scheduler.wait_until(lambda: watch.pausing)
        watch.offer_model(epoch(4), MODEL)
        watch.offer_checkpoint(b"so far")
        raise RunPausedError

    assert await world.train(script) == "paused"
    assert (world.scheduler.released, world.scheduler.completed) == (1, [])
    last = world.scheduler.reports[-1]
    assert world.store.contents[last.checkpoint_digest] == b"so far"
    assert list(world.store.models) == [f"{NAME}:ckpt-step-4"]


async def test_a_model_that_cannot_be_stored_is_stored_by_the_next_heartbeat(world: World) -> None:
    def script(watch: Watch) -> None:
        world.scheduler.wait_for_beats()
        world.store.trouble = [OSError("away")]
        watch.offer_model(epoch(4), MODEL)
        world.scheduler.wait_until(lambda: "model_lost" in world.warnings)
        world.scheduler.wait_for_beats()

    await world.train(script)
    assert f"{NAME}:ckpt-step-4" in world.store.models
    assert world.warnings == ["model_lost"]


async def test_a_run_that_is_called_off_waits_for_no_snapshot(world: World) -> None:
    world.snapshots.go_on.clear()
    world.scheduler.directive = Directive.CANCEL
    with pytest.raises(RunCancelledError):
        await asyncio.wait_for(world.train(), WAIT_SECONDS_MAX)
    assert world.learner.given == []


async def test_a_file_that_cannot_be_used_fails_the_run_for_good(world: World) -> None:
    message = "The training file cannot be used: line 3: negative is missing."
    world.snapshots.trouble = [RunInvalidError("INVALID_TRAINING_FILE", message)]
    around = (world.scheduler, world.snapshots, world.store)
    trainer = Trainer("test", *around, ScriptedLearner(), file_learner=world.learner)
    assert await trainer._carry_out(wished()) == "failed"
    assert world.scheduler.failures == [("INVALID_TRAINING_FILE", message, False)]
