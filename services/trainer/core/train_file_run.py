"""Carrying out one leased run from files: snapshot, model, result file; with a heartbeat."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from services.trainer.core.errors import RunPausedError
from services.trainer.core.ports import (
    FileLearner,
    FileOutcome,
    HeadStore,
    LearnedModel,
    LeasedRun,
    Scheduler,
    Snapshots,
    Warn,
)
from services.trainer.core.train_run import Heart
from services.trainer.core.watch import LossPoint, ModelFiles, Watch

LOOK_SECONDS = 0.5

Result = TypeVar("Result")


async def train_file_run(
    run: LeasedRun,
    scheduler: Scheduler,
    snapshots: Snapshots,
    store: HeadStore,
    learner: FileLearner,
    *,
    warn: Warn,
) -> str:
    """Makes a model, hands it over, and returns the verdict's result; "paused" if it has to wait.

    Raises:
        RunInvalidError: a file cannot be used.
        LeaseLostError: another trainer may hold the run; nothing more was done.
        RunCancelledError: the run was called off.
    """
    assert run.files is not None, "a run of a domain"
    watch = Watch(run.snapshot_digest, run.checkpoint_digest)
    digest = run.snapshot_digest

    async def store_model(point: LossPoint, files: ModelFiles) -> str:
        name, recipe = f"{run.head}:ckpt-step-{point.step}", {"step": point.step, "seed": run.seed}
        return await store.write_model(run, name, digest, files, recipe=recipe)

    heart = Heart(run, scheduler, store, watch, warn, store_model=store_model)
    async with heart.beating():
        if not digest:
            digest, dataset = await _unless_called_off(snapshots.create_from_files(run), watch)
            watch.set_dataset(dataset)
        watch.set_snapshot(digest)
        snapshot = await store.read(digest)
        base = None
        if run.incumbent_manifest_digest:
            base = await store.read_base(run.incumbent_manifest_digest)
        checkpoint = await store.read_checkpoint(run.checkpoint_digest)
        try:
            model = await asyncio.to_thread(
                learner.learn, snapshot, base, checkpoint, run.files, seed=run.seed, watch=watch
            )
        except RunPausedError:
            await heart.beat()  # stores the checkpoint and tells it
            watch.check()
            await scheduler.release(run)
            return "paused"
        manifest = await store.write_model(run, run.head, digest, model.files, recipe=model.recipe)
        outcome = await _outcome(store, model)
        await heart.beat()  # what the last regular one has not told
        watch.check()
        return await scheduler.complete(run, manifest, model.evaluation, outcome)


async def _unless_called_off(work: Coroutine[None, None, Result], watch: Watch) -> Result:
    """Waits for what may take an hour, but not for a run that somebody has called off."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            watch.check()
            await asyncio.wait([task], timeout=LOOK_SECONDS)
        return task.result()
    finally:
        task.cancel()


async def _outcome(store: HeadStore, model: LearnedModel) -> FileOutcome:
    return FileOutcome(
        result_file_digest=await store.write(model.result_file),
        result_file_size_bytes=len(model.result_file),
        trained_tokens_count=model.trained_tokens_count,
        hyperparameters=model.hyperparameters,
    )
