"""LeaseService: the contract with whatever trains."""

import asyncio
import re

import numpy as np
from google.protobuf.duration_pb2 import Duration
from trine.scheduler.v1 import lease_service_pb2 as pb
from trine.scheduler.v1 import lease_service_pb2_grpc

from services.chassis.clock import Clock
from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE
from services.chassis.interceptors import Context
from services.scheduler.core.complete_run import complete_run
from services.scheduler.core.counterfactual import weigh_pages
from services.scheduler.core.errors import FieldInvalidError, LeaseLostError, RunNotFoundError
from services.scheduler.core.file_source import checkpoint_name
from services.scheduler.core.lease_run import (
    Directive,
    Lease,
    check_lease,
    fail_run,
    heartbeat_run,
    lease_run,
    release_run,
)
from services.scheduler.core.manifest import check_manifest
from services.scheduler.core.ports import Heartbeat, Manifests, SchedulerStore
from services.scheduler.core.run import Failure, LossPoint, Run, State, head_of
from services.scheduler.core.verdict import GENERAL, Evaluation, Verdict, judge
from services.scheduler.file_messages import (
    checkpoint_from_proto,
    dataset_from_proto,
    result_from_proto,
    source_to_proto,
)
from services.scheduler.messages import verdict_to_proto
from services.scheduler.metrics import GATE, HEAD_PROMOTED, RUN_SECONDS, STALE_TOKENS
from services.scheduler.rpc.explored_pages import explored_pages

OUTCOMES_MAX = 200_000
LOSS_POINTS_MAX = 1_000
CHECKPOINTS_MAX = 100
REASON_CHARACTERS_MAX = 64
MESSAGE_CHARACTERS_MAX = 1_000
_DIGEST = re.compile(r"[0-9a-f]{64}")

PHASES = {
    pb.HeartbeatRunRequest.PHASE_STARTING: State.STARTING,
    pb.HeartbeatRunRequest.PHASE_RUNNING: State.RUNNING,
    pb.HeartbeatRunRequest.PHASE_EVALUATING: State.EVALUATING,
    pb.HeartbeatRunRequest.PHASE_EXPORTING: State.EXPORTING,
}

DIRECTIVES = {
    Directive.CONTINUE: pb.HeartbeatRunResponse.DIRECTIVE_CONTINUE,
    Directive.CANCEL: pb.HeartbeatRunResponse.DIRECTIVE_CANCEL,
    Directive.PAUSE: pb.HeartbeatRunResponse.DIRECTIVE_PAUSE,
    Directive.STOP: pb.HeartbeatRunResponse.DIRECTIVE_STOP,
}


class LeaseServicer(lease_service_pb2_grpc.LeaseServiceServicer):
    """Leases runs to trainers."""

    def __init__(
        self, store: SchedulerStore, manifests: Manifests, clock: Clock, lease_seconds: float
    ) -> None:
        self._store = store
        self._manifests = manifests
        self._clock = clock
        self._lease_seconds = lease_seconds

    async def LeaseRun(self, request: pb.LeaseRunRequest, context: Context) -> pb.LeaseRunResponse:
        async with self._store.begin(EVERYONE) as unit:
            lease = await lease_run(unit, request.trainer, self._lease_seconds)
            if lease is not None:
                crashpoint("scheduler.lease.written")
        if lease is None:
            return pb.LeaseRunResponse()
        crashpoint("scheduler.lease.committed")
        return pb.LeaseRunResponse(run=_leased(lease, self._lease_seconds))

    async def HeartbeatRun(
        self, request: pb.HeartbeatRunRequest, context: Context
    ) -> pb.HeartbeatRunResponse:
        if request.phase not in PHASES:
            raise FieldInvalidError("phase", "must be a phase")
        if len(request.loss_points) > LOSS_POINTS_MAX:
            raise FieldInvalidError("loss_points", f"must be at most {LOSS_POINTS_MAX}")
        if len(request.checkpoints) > CHECKPOINTS_MAX:
            raise FieldInvalidError("checkpoints", f"must be at most {CHECKPOINTS_MAX}")
        heartbeat = _heartbeat(request)
        if heartbeat.checkpoints:
            run = await self._find(request.tenant, request.run_id)
            for checkpoint in heartbeat.checkpoints:
                name = checkpoint_name(head_of(run.job, run.run_id), checkpoint.step)
                told = await self._manifests.read_told(checkpoint.manifest_digest)
                check_manifest(told, run, name)
        key = (request.tenant, request.run_id, request.token)
        with _counting_stale_tokens():
            async with self._store.begin(request.tenant) as unit:
                directive = await heartbeat_run(
                    unit, *key, seconds=self._lease_seconds, heartbeat=heartbeat
                )
                crashpoint("scheduler.heartbeat.written")
        crashpoint("scheduler.heartbeat.committed")
        return pb.HeartbeatRunResponse(directive=DIRECTIVES[directive])

    async def ReleaseRun(
        self, request: pb.ReleaseRunRequest, context: Context
    ) -> pb.ReleaseRunResponse:
        with _counting_stale_tokens():
            async with self._store.begin(request.tenant) as unit:
                await release_run(unit, request.tenant, request.run_id, request.token)
        crashpoint("scheduler.release.committed")
        return pb.ReleaseRunResponse()

    async def CompleteRun(
        self, request: pb.CompleteRunRequest, context: Context
    ) -> pb.CompleteRunResponse:
        digest = _digest("manifest_digest", request.manifest_digest)
        if not digest:
            raise FieldInvalidError("manifest_digest", "must be given")
        evaluation = _evaluation(request.evaluation)
        pages = explored_pages(request.evaluation.pages)
        result = result_from_proto(request.result) if request.HasField("result") else None
        run = await self._find(request.tenant, request.run_id)
        with _counting_stale_tokens():
            check_lease(run, request.token)
        if run.verdict is not None:
            return pb.CompleteRunResponse(verdict=verdict_to_proto(run.verdict))  # a repeat
        told = await self._manifests.read_told(digest)
        check_manifest(told, run, head_of(run.job, run.run_id))
        # The bootstrap takes up to seconds: before the transaction, and off the loop.
        unfit = request.evaluation.incumbent_unfit
        incumbent = GENERAL if unfit else run.incumbent or GENERAL
        explored = await asyncio.to_thread(weigh_pages, pages)
        verdict = await asyncio.to_thread(judge, evaluation, incumbent, run.job.seed, explored)
        crashpoint("scheduler.completion.judged")
        with _counting_stale_tokens():
            async with self._store.begin(request.tenant) as unit:
                verdict = await complete_run(
                    unit,
                    self._clock,
                    tenant=request.tenant,
                    run_id=request.run_id,
                    token=request.token,
                    manifest_digest=digest,
                    verdict=verdict,
                    result=result,
                )
                crashpoint("scheduler.completion.written")
        crashpoint("scheduler.completion.committed")
        self._count(run, verdict)
        return pb.CompleteRunResponse(verdict=verdict_to_proto(verdict))

    async def FailRun(self, request: pb.FailRunRequest, context: Context) -> pb.FailRunResponse:
        failure = Failure(
            request.failure.reason[:REASON_CHARACTERS_MAX],
            request.failure.message[:MESSAGE_CHARACTERS_MAX],
            request.failure.retriable,
        )
        with _counting_stale_tokens():
            async with self._store.begin(request.tenant) as unit:
                run = await fail_run(unit, request.tenant, request.run_id, request.token, failure)
        crashpoint("scheduler.failure.committed")
        if run.state is State.FAILED:
            RUN_SECONDS.labels("failed").observe(self._seconds(run))
        return pb.FailRunResponse()

    async def _find(self, tenant: str, run_id: str) -> Run:
        run = await self._store.read_run(tenant, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    def _count(self, run: Run, verdict: Verdict) -> None:
        GATE.labels(verdict.result).inc()
        end = State.STOPPED if run.state is State.STOPPING else State.SUCCEEDED
        RUN_SECONDS.labels(end).observe(self._seconds(run))
        if verdict.promoted:
            HEAD_PROMOTED.labels(run.job.tenant, run.job.domain).set_to_current_time()

    def _seconds(self, run: Run) -> float:
        return (self._clock.now() - (run.start_time or run.create_time)).total_seconds()


class _counting_stale_tokens:  # noqa: N801  # reads as what it does
    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LeaseLostError):
            STALE_TOKENS.inc()


def _heartbeat(request: pb.HeartbeatRunRequest) -> Heartbeat:
    for checkpoint in request.checkpoints:
        if not _digest("checkpoints.manifest_digest", checkpoint.manifest_digest):
            raise FieldInvalidError("checkpoints.manifest_digest", "must be given")
    return Heartbeat(
        phase=PHASES[request.phase],
        steps_done_count=request.progress.steps_done_count,
        steps_count=request.progress.steps_count,
        loss_points=[
            LossPoint(
                point.step,
                point.loss,
                point.validation_ndcg_at_10,
                point.stage,
                point.validation_loss if point.HasField("validation_loss") else None,
            )
            for point in request.loss_points
        ],
        snapshot_digest=_digest("snapshot_digest", request.snapshot_digest),
        checkpoint_digest=_digest("checkpoint_digest", request.checkpoint_digest),
        dataset=dataset_from_proto(request.dataset) if request.HasField("dataset") else None,
        checkpoints=[checkpoint_from_proto(each) for each in request.checkpoints],
    )


def _leased(lease: Lease, seconds: float) -> pb.LeaseRunResponse.LeasedRun:
    run, files = lease.run, lease.run.job.files
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return pb.LeaseRunResponse.LeasedRun(
        tenant=run.job.tenant,
        domain=run.job.domain,
        run_id=run.run_id,
        token=run.token,
        lease_duration=duration,
        revision=run.job.revision,
        snapshot_digest=run.snapshot_digest,
        checkpoint_digest=run.checkpoint_digest,
        incumbent=run.incumbent,
        incumbent_manifest_digest=lease.incumbent_manifest_digest,
        head=head_of(run.job, run.run_id),
        seed=run.job.seed,
        tier=run.job.tier,
        prior=run.prior,
        prior_manifest_digest=lease.prior_manifest_digest,
        source=None if files is None else source_to_proto(files.source),
    )


def _evaluation(message: pb.CompleteRunRequest.Evaluation) -> Evaluation:
    seekers = np.array(message.seekers, np.int32)
    levels = np.array(message.levels, np.int32)
    challenger = np.array(message.challenger_scores, np.float64)
    incumbent = np.array(message.incumbent_scores, np.float64)
    sizes = {len(seekers), len(levels), len(challenger), len(incumbent)}
    if len(sizes) != 1 or len(seekers) > OUTCOMES_MAX:
        raise FieldInvalidError("evaluation", f"must be arrays of one length up to {OUTCOMES_MAX}")
    if len(levels) and not (levels.min() >= 0 and levels.max() <= 3):
        raise FieldInvalidError("evaluation.levels", "must be 0 to 3")
    if not (np.isfinite(challenger).all() and np.isfinite(incumbent).all()):
        raise FieldInvalidError("evaluation", "must have finite scores")
    return Evaluation(
        seekers=seekers,
        levels=levels,
        challenger_scores=challenger,
        incumbent_scores=incumbent,
        incumbent_calibrated=message.incumbent_calibrated,
    )


def _digest(field: str, digest: str) -> str:
    if digest and not _DIGEST.fullmatch(digest):
        raise FieldInvalidError(field, "must be a SHA-256 in lower-case hexadecimal")
    return digest
