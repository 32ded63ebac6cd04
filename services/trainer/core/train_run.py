"""Carrying out one leased run: snapshot, learning, head; with a heartbeat all the while."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from services.trainer.core.errors import LeaseLostError, RunCancelledError, RunPausedError
from services.trainer.core.ports import (
    Directive,
    HeadStore,
    Learner,
    LeasedRun,
    Scheduler,
    Snapshots,
    Warn,
)
from services.trainer.core.watch import LossPoint, ModelFiles, StoredModel, Watch

HEARTBEATS_PER_LEASE = 6
HEARTBEAT_SECONDS_MAX = 1.0
DOMAIN_TIER = "domain"
"""Heads of this tier travel between tenants."""


async def train_run(
    run: LeasedRun,
    scheduler: Scheduler,
    snapshots: Snapshots,
    store: HeadStore,
    learner: Learner,
    *,
    warn: Warn,
) -> str:
    """Trains a head, hands it over, and returns the verdict's result; "paused" if it has to wait.

    A heartbeat or checkpoint that is lost on the way is warned of and made good by the next one.

    Raises:
        LeaseLostError: another trainer may hold the run; nothing more was done.
        RunCancelledError: the run was called off.
    """
    watch = Watch(run.snapshot_digest, run.checkpoint_digest)
    heart = Heart(run, scheduler, store, watch, warn)
    async with heart.beating():
        snapshot_digest = run.snapshot_digest or await snapshots.create(run)
        watch.set_snapshot(snapshot_digest)
        snapshot = await store.read(snapshot_digest)
        incumbent = None
        if run.incumbent_manifest_digest:
            incumbent = await store.read_head(run.incumbent_manifest_digest)
        prior = None
        if run.prior_manifest_digest:
            prior = await store.read_head(run.prior_manifest_digest)
        checkpoint = await store.read_checkpoint(run.checkpoint_digest)
        try:
            head = await asyncio.to_thread(
                learner.learn,
                snapshot,
                incumbent,
                checkpoint,
                run.seed,
                watch,
                prior=prior,
                knows_people=run.tier != DOMAIN_TIER,
            )
        except RunPausedError:
            await heart.beat()  # stores the checkpoint and tells it
            watch.check()
            await scheduler.release(run)
            return "paused"
        manifest_digest = await store.write_head(run, snapshot_digest, head)
        await heart.beat()  # what the last regular one has not told
        watch.check()
        return await scheduler.complete(run, manifest_digest, head.evaluation)


StoreModel = Callable[[LossPoint, ModelFiles], Awaitable[str]]
"""Stores a model as it is after a step and returns its manifest's digest."""


class Heart:
    """Heartbeats of one run."""

    def __init__(
        self,
        run: LeasedRun,
        scheduler: Scheduler,
        store: HeadStore,
        watch: Watch,
        warn: Warn,
        *,
        store_model: StoreModel | None = None,
    ) -> None:
        self._run = run
        self._store_model = store_model
        self._scheduler = scheduler
        self._store = store
        self._watch = watch
        self._warn = warn
        self._one_at_a_time = asyncio.Lock()
        self._seconds = min(HEARTBEAT_SECONDS_MAX, run.lease_seconds / HEARTBEATS_PER_LEASE)

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beats until the block ends; a lost lease stops what runs inside through the watch."""
        task = asyncio.create_task(self._run_beats())
        try:
            yield
        finally:
            self._watch.stop(LeaseLostError)  # a thread that still learns does so for nobody
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run_beats(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.beat()
            except Exception as error:  # whatever it is: the lease outlives several lost beats
                self._warn("heartbeat_lost", error)

    async def beat(self) -> None:
        """Tells the scheduler how far the run is and hears whether to go on."""
        async with self._one_at_a_time:
            await self._beat()

    async def _beat(self) -> None:
        # Taken before the models are stored: a run that goes on from it has told all before it.
        checkpoint = self._watch.take_checkpoint()
        await self._store_models()
        await self._store_checkpoint(checkpoint)
        report = self._watch.report()
        try:
            directive = await self._scheduler.heartbeat(self._run, report)
        except LeaseLostError:
            self._watch.stop(LeaseLostError)
            return
        self._watch.told(report)
        if directive is Directive.CANCEL:
            self._watch.stop(RunCancelledError)
        elif directive is Directive.PAUSE:
            self._watch.ask_pause()
        elif directive is Directive.STOP:
            self._watch.ask_stop()

    async def _store_models(self) -> None:
        while self._store_model is not None and (offered := self._watch.next_model()) is not None:
            try:
                digest = await self._store_model(*offered)
            except Exception as error:  # a store that is away must not cost the lease
                self._warn("model_lost", error)
                return
            self._watch.set_model(StoredModel(offered[0], digest))

    async def _store_checkpoint(self, checkpoint: bytes | None) -> None:
        if checkpoint is None:
            return
        try:
            self._watch.set_checkpoint(await self._store.write(checkpoint))
        except Exception as error:  # a store that is away must not cost the lease
            self._watch.put_back_checkpoint(checkpoint)
            self._warn("checkpoint_lost", error)
