"""What the trainer asks of others: runs of the scheduler, snapshots of the triplet store."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from trine.scheduler.v1 import (
    explored_pages_pb2,
    file_run_pb2,
    lease_service_pb2_grpc,
    run_pb2,
)
from trine.scheduler.v1 import lease_service_pb2 as pb
from trine.triplets.v1 import (
    file_snapshot_service_pb2,
    file_snapshot_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)

from services.chassis.crashpoint import crashpoint
from services.chassis.errors import read_error_info
from services.trainer.core.errors import LeaseLostError, RunInvalidError
from services.trainer.core.ports import (
    Directive,
    Evaluation,
    FileOutcome,
    FileWish,
    Hyperparameters,
    LeasedRun,
    ScoredPages,
)
from services.trainer.core.watch import FileDataset, Phase, Report, StoredModel

SNAPSHOT_SECONDS_MAX = 600.0
COMPLETE_SECONDS_MAX = 120.0
FILE_SNAPSHOT_SECONDS_MAX = 3600.0
"""A large file has a hundred thousand texts to be encoded."""

AWAY_SECONDS_MAX = 60.0
"""So long a service may be away before the attempt is given up: meanwhile the lease is kept."""
LOOK_AGAIN_SECONDS = 0.5

FILE_REASONS = {"INVALID_TRAINING_FILE", "INVALID_VALIDATION_FILE"}
"""What the triplet store says of files that nobody can learn from."""

METHODS = {
    file_run_pb2.FileSource.METHOD_UNSPECIFIED: "",
    file_run_pb2.FileSource.METHOD_SUPERVISED: "supervised",
    file_run_pb2.FileSource.METHOD_DPO: "dpo",
    file_run_pb2.FileSource.METHOD_TRIPLET: "triplet",
}
Answer = TypeVar("Answer")
_METHOD_NUMBERS = {name: number for number, name in METHODS.items()}

PHASES = {
    Phase.STARTING: pb.HeartbeatRunRequest.PHASE_STARTING,
    Phase.RUNNING: pb.HeartbeatRunRequest.PHASE_RUNNING,
    Phase.EVALUATING: pb.HeartbeatRunRequest.PHASE_EVALUATING,
    Phase.EXPORTING: pb.HeartbeatRunRequest.PHASE_EXPORTING,
}

DIRECTIVES = {
    pb.HeartbeatRunResponse.DIRECTIVE_CANCEL: Directive.CANCEL,
    pb.HeartbeatRunResponse.DIRECTIVE_PAUSE: Directive.PAUSE,
    pb.HeartbeatRunResponse.DIRECTIVE_STOP: Directive.STOP,
}


class SchedulerClient:
    """Leases over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = lease_service_pb2_grpc.LeaseServiceStub(channel)

    async def lease(self, trainer: str) -> LeasedRun | None:
        """Takes the oldest queued run."""
        response = await self._stub.LeaseRun(pb.LeaseRunRequest(trainer=trainer))
        if not response.HasField("run"):
            return None
        run = response.run
        crashpoint("trainer.run.leased")
        return LeasedRun(
            tenant=run.tenant,
            domain=run.domain,
            run_id=run.run_id,
            token=run.token,
            lease_seconds=run.lease_duration.ToTimedelta().total_seconds(),
            revision=run.revision,
            snapshot_digest=run.snapshot_digest,
            checkpoint_digest=run.checkpoint_digest,
            incumbent=run.incumbent,
            incumbent_manifest_digest=run.incumbent_manifest_digest,
            head=run.head,
            seed=run.seed,
            files=_wish(run.source) if run.HasField("source") else None,
            tier=run.tier,
            prior=run.prior,
            prior_manifest_digest=run.prior_manifest_digest,
        )

    async def heartbeat(self, run: LeasedRun, report: Report) -> Directive:
        """Extends the lease and hears what to do next."""
        request = pb.HeartbeatRunRequest(
            tenant=run.tenant,
            run_id=run.run_id,
            token=run.token,
            phase=PHASES[report.phase],
            progress=run_pb2.Run.Progress(
                steps_done_count=report.steps_done_count, steps_count=report.steps_count
            ),
            loss_points=[
                run_pb2.Run.LossPoint(
                    step=point.step,
                    loss=point.loss,
                    validation_ndcg_at_10=point.validation_ndcg_at_10,
                    stage=point.stage,
                    validation_loss=point.validation_loss,
                )
                for point in report.loss_points
            ],
            snapshot_digest=report.snapshot_digest,
            checkpoint_digest=report.checkpoint_digest,
            dataset=None if report.dataset is None else _dataset(report.dataset),
            checkpoints=map(_checkpoint, report.models),
        )
        try:
            response = await self._stub.HeartbeatRun(request)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from error
        crashpoint("trainer.heartbeat.sent")
        return DIRECTIVES.get(response.directive, Directive.CONTINUE)

    async def complete(
        self,
        run: LeasedRun,
        manifest_digest: str,
        evaluation: Evaluation,
        outcome: FileOutcome | None = None,
    ) -> str:
        """Hands the head over and returns the verdict's result."""
        request = pb.CompleteRunRequest(
            tenant=run.tenant,
            run_id=run.run_id,
            token=run.token,
            manifest_digest=manifest_digest,
            evaluation=pb.CompleteRunRequest.Evaluation(
                seekers=evaluation.seekers.tolist(),
                levels=evaluation.levels.tolist(),
                challenger_scores=evaluation.challenger_scores.tolist(),
                incumbent_scores=evaluation.incumbent_scores.tolist(),
                incumbent_calibrated=evaluation.incumbent_calibrated,
                pages=_pages(evaluation.pages),
                incumbent_unfit=evaluation.incumbent_unfit,
            ),
            result=None if outcome is None else _result(outcome),
        )
        try:
            response = await _patiently(
                lambda: self._stub.CompleteRun(request, timeout=COMPLETE_SECONDS_MAX)
            )
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from error
        crashpoint("trainer.run.completed")
        return response.verdict.result

    async def release(self, run: LeasedRun) -> None:
        """Gives a run back that is to pause."""
        request = pb.ReleaseRunRequest(tenant=run.tenant, run_id=run.run_id, token=run.token)
        try:
            await self._stub.ReleaseRun(request)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from error
        crashpoint("trainer.run.released")

    async def fail(self, run: LeasedRun, reason: str, message: str, *, retriable: bool) -> None:
        """Gives the attempt up."""
        request = pb.FailRunRequest(
            tenant=run.tenant,
            run_id=run.run_id,
            token=run.token,
            failure=run_pb2.Run.Failure(reason=reason, message=message, retriable=retriable),
        )
        try:
            await self._stub.FailRun(request)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from error


class TripletsClient:
    """Snapshots over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = snapshot_service_pb2_grpc.SnapshotServiceStub(channel)
        self._files = file_snapshot_service_pb2_grpc.FileSnapshotServiceStub(channel)

    async def create(self, run: LeasedRun) -> str:
        """Freezes the run's domain as of its revision and returns the snapshot's digest."""
        request = snapshot_service_pb2.CreateSnapshotRequest(
            tenant=run.tenant, domain=run.domain, revision=run.revision
        )
        response = await _patiently(
            lambda: self._stub.CreateSnapshot(request, timeout=SNAPSHOT_SECONDS_MAX)
        )
        crashpoint("trainer.snapshot.made")
        return response.digest

    async def create_from_files(self, run: LeasedRun) -> tuple[str, FileDataset]:
        """Freezes the run's files; returns the snapshot's digest and what the files hold."""
        assert run.files is not None, "a run of a domain"
        request = file_snapshot_service_pb2.CreateFileSnapshotRequest(
            tenant=run.tenant,
            training_file_digest=run.files.training_file_digest,
            validation_file_digest=run.files.validation_file_digest,
            method=run.files.method,
        )
        try:
            response = await _patiently(
                lambda: self._files.CreateFileSnapshot(request, timeout=FILE_SNAPSHOT_SECONDS_MAX)
            )
        except grpc.aio.AioRpcError as error:
            reason = read_error_info(error).reason
            if reason in FILE_REASONS:
                raise RunInvalidError(reason, error.details() or reason) from error
            raise
        crashpoint("trainer.file_snapshot.made")
        dataset = FileDataset(
            training_lines_count=response.training_lines_count,
            validation_lines_count=response.validation_lines_count,
            held_out_lines_count=response.held_out_lines_count,
            items_count=response.items_count,
            tokens_count=response.tokens_count,
            method=response.method,
        )
        return response.digest, dataset


async def _patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Calls until the other side is there. Three attempts would otherwise be over in seconds."""
    deadline = time.monotonic() + AWAY_SECONDS_MAX
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _wish(source: file_run_pb2.FileSource) -> FileWish:
    chosen = {field.name: value for field, value in source.hyperparameters.ListFields()}
    return FileWish(
        training_file_digest=source.training_file.digest,
        validation_file_digest=source.validation_file.digest,
        method=METHODS[source.method],
        hyperparameters=Hyperparameters(**chosen),
    )


def _dataset(dataset: FileDataset) -> file_run_pb2.FileDataset:
    return file_run_pb2.FileDataset(
        training_lines_count=dataset.training_lines_count,
        validation_lines_count=dataset.validation_lines_count,
        held_out_lines_count=dataset.held_out_lines_count,
        items_count=dataset.items_count,
        tokens_count=dataset.tokens_count,
        method=_METHOD_NUMBERS[dataset.method],
    )


def _checkpoint(model: StoredModel) -> file_run_pb2.FileRunCheckpoint:
    point = model.point
    measured = point.validation_loss is not None
    return file_run_pb2.FileRunCheckpoint(
        step=point.step,
        training_loss=point.loss,
        validation_loss=point.validation_loss,
        validation_ndcg_at_10=point.validation_ndcg_at_10 if measured else None,
        manifest_digest=model.manifest_digest,
    )


def _result(outcome: FileOutcome) -> file_run_pb2.FileResult:
    used = outcome.hyperparameters
    return file_run_pb2.FileResult(
        result_file_digest=outcome.result_file_digest,
        result_file_size_bytes=outcome.result_file_size_bytes,
        trained_tokens_count=outcome.trained_tokens_count,
        hyperparameters=file_run_pb2.Hyperparameters(
            n_epochs=used.n_epochs,
            batch_size=used.batch_size,
            learning_rate_multiplier=used.learning_rate_multiplier,
            beta=used.beta,
        ),
    )


def _pages(pages: ScoredPages | None) -> explored_pages_pb2.ExploredPages | None:
    if pages is None:
        return None
    columns = {field.name: getattr(pages, field.name) for field in dataclasses.fields(pages)}
    return explored_pages_pb2.ExploredPages(**{n: c.tolist() for n, c in columns.items()})


def _translate(error: grpc.aio.AioRpcError) -> Exception:
    if read_error_info(error).reason == "LEASE_LOST":
        return LeaseLostError()
    return error
