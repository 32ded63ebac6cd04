"""The pod's life: lease a run, carry it out, lease the next."""

import asyncio

import grpc
import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.trainer.core.errors import LeaseLostError, RunCancelledError, RunInvalidError
from services.trainer.core.ports import (
    FileLearner,
    HeadStore,
    Learner,
    LeasedRun,
    Scheduler,
    Snapshots,
)
from services.trainer.core.train_file_run import train_file_run
from services.trainer.core.train_run import train_run

IDLE_SECONDS = 0.25
RETRY_SECONDS = 1.0

BUSY = Gauge("trine_trainer_busy", "Whether the trainer holds a run.")
ATTEMPTS = Counter("trine_trainer_attempts_total", "Runs that this trainer held.", ("result",))
ATTEMPT_SECONDS = Histogram(
    "trine_trainer_attempt_seconds",
    "Time that the trainer held a run.",
    buckets=(1, 2, 5, 10, 30, 60, 300, 900, 1800, 3600, 4 * 3600),
)

_log = structlog.get_logger()


class Trainer:
    """Takes one run at a time."""

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        snapshots: Snapshots,
        store: HeadStore,
        learner: Learner,
        *,
        file_learner: FileLearner,
    ) -> None:
        self._name = name
        self._scheduler = scheduler
        self._snapshots = snapshots
        self._store = store
        self._learner = learner
        self._file_learner = file_learner

    async def run(self) -> None:
        """Takes runs until cancelled."""
        while True:
            try:
                run = await self._scheduler.lease(self._name)
            except grpc.aio.AioRpcError as error:
                _log.warning("lease_failed", code=error.code().name)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if run is None:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            with (
                BUSY.track_inprogress(),
                ATTEMPT_SECONDS.time(),
                structlog.contextvars.bound_contextvars(run_id=run.run_id, tenant=run.tenant),
            ):
                result = await self._carry_out(run)
                _log.info("run_ended", result=result)
            ATTEMPTS.labels(result).inc()

    async def _carry_out(self, run: LeasedRun) -> str:
        around = (self._scheduler, self._snapshots, self._store)
        try:
            if run.files is not None:
                return await train_file_run(run, *around, self._file_learner, warn=_warn)
            return await train_run(run, *around, self._learner, warn=_warn)
        except LeaseLostError:
            return "lease_lost"
        except RunCancelledError:
            return "cancelled"
        except RunInvalidError as error:
            await self._give_up(run, error.reason, str(error), retriable=False)
            return "failed"
        except Exception as error:
            _log.exception("run_failed")
            # What exactly went wrong may name hosts and paths: callers get its kind, the log the
            # rest.
            message = f"The trainer failed with {type(error).__name__}."
            await self._give_up(run, "TRAINER_ERROR", message, retriable=True)
            return "failed"

    async def _give_up(self, run: LeasedRun, reason: str, message: str, *, retriable: bool) -> None:
        try:
            await self._scheduler.fail(run, reason, message, retriable=retriable)
        except (LeaseLostError, grpc.aio.AioRpcError):  # the lease runs out by itself
            _log.warning("fail_run_failed")


def _warn(event: str, error: Exception) -> None:
    _log.warning(event, error=repr(error))
