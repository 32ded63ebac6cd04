"""Leases: a trainer's right to a run, for as long as it heartbeats."""

import enum
from dataclasses import dataclass

from services.scheduler.core.errors import LeaseLostError, RunNotFoundError
from services.scheduler.core.head import SHARED, Head
from services.scheduler.core.in_use import lock_above, lock_in_use
from services.scheduler.core.ports import Heartbeat, SchedulerUnit
from services.scheduler.core.run import ATTEMPTS_MAX, LEASED, MOVES, Failure, Run, State


@dataclass(frozen=True, slots=True)
class Lease:
    """A run in a trainer's hands."""

    run: Run
    incumbent_manifest_digest: str
    """Of what the head is measured against; empty for the encoder alone."""
    prior_manifest_digest: str
    """Of the domain head that it starts from; empty for none."""


class Directive(enum.Enum):
    """What a trainer is to do next."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    PAUSE = "pause"
    STOP = "stop"


_DIRECTIVES = {State.PAUSING: Directive.PAUSE, State.STOPPING: Directive.STOP}


async def lease_run(unit: SchedulerUnit, trainer: str, seconds: float) -> Lease | None:
    """Hands out the oldest queued run; None when there is none."""
    run = await unit.lock_queued_run()
    if run is None:
        return None
    prior = None
    if run.job.files is not None:
        name, digest = run.job.files.base_head, run.job.files.base_manifest_digest
    else:
        incumbent = await lock_in_use(unit, run.job.tenant, run.job.domain)
        name = "" if incumbent is None else incumbent.head
        digest = "" if incumbent is None else incumbent.manifest_digest
        prior = await _prior(unit, run)
    leased = await unit.start_lease(
        run, trainer, seconds, name, prior="" if prior is None else prior.head
    )
    if run.start_time is None:
        await unit.emit_run("started", leased)
    return Lease(leased, digest, "" if prior is None else prior.manifest_digest)


async def _prior(unit: SchedulerUnit, run: Run) -> Head | None:
    """The domain head that a tenant's run starts from: the one in use at its first lease.

    A checkpoint would not go on from where it began with another.
    """
    if run.start_time is None:
        return await lock_above(unit, run.job.tenant, run.job.domain)
    return await unit.find_head(SHARED, run.job.domain, run.prior) if run.prior else None


async def heartbeat_run(
    unit: SchedulerUnit,
    tenant: str,
    run_id: str,
    token: int,
    *,
    seconds: float,
    heartbeat: Heartbeat,
) -> Directive:
    """Extends the lease, keeps what is reported, and says what to do next."""
    run = await hold_run(unit, tenant, run_id, token)
    if run.state not in LEASED:
        # It was cancelled, or has ended or been given back while the heartbeat was on its way.
        return Directive.CANCEL
    if run.stop_requested and State.STOPPING in MOVES[run.state]:
        run = await unit.move_run(run, State.STOPPING)
    elif heartbeat.phase in MOVES[run.state]:
        run = await unit.move_run(run, heartbeat.phase)
    await unit.extend_lease(run, seconds, heartbeat)
    return _DIRECTIVES.get(run.state, Directive.CONTINUE)


async def release_run(unit: SchedulerUnit, tenant: str, run_id: str, token: int) -> None:
    """Takes a run that is pausing back from its trainer."""
    run = await hold_run(unit, tenant, run_id, token)
    if run.state is State.PAUSING:
        await _pause(unit, run)


async def fail_run(
    unit: SchedulerUnit, tenant: str, run_id: str, token: int, failure: Failure
) -> Run:
    """Ends an attempt: back to the queue if that may help, else failed."""
    run = await hold_run(unit, tenant, run_id, token)
    if run.state not in LEASED:
        return run  # it was cancelled, or this is a repeat
    return await _give_up(unit, run, failure)


async def expire_leases(unit: SchedulerUnit) -> list[Run]:
    """Takes runs back from trainers that have gone silent."""
    message = "The trainer went silent."
    failure = Failure("LEASE_EXPIRED", message, retriable=True)
    return [await _give_up(unit, run, failure) for run in await unit.lock_expired_runs()]


async def hold_run(unit: SchedulerUnit, tenant: str, run_id: str, token: int) -> Run:
    """Locks a run for the holder of its last lease.

    Raises:
        LeaseLostError: another lease has begun since, or the run went back to the queue.
        RunNotFoundError: there is no such run.
    """
    run = await unit.lock_run(tenant, run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    check_lease(run, token)
    return run


def check_lease(run: Run, token: int) -> None:
    """Refuses whoever is not the holder of a run's last lease.

    Raises:
        LeaseLostError: another lease has begun since, or the run went back to the queue.
    """
    if run.token != token or run.state is State.QUEUED:
        raise LeaseLostError(run.run_id)


async def _pause(unit: SchedulerUnit, run: Run) -> Run:
    paused = await unit.move_run(run, State.PAUSED)
    await unit.emit_run("paused", paused)
    return paused


async def _give_up(unit: SchedulerUnit, run: Run, failure: Failure) -> Run:
    if failure.retriable and run.state is State.PAUSING:
        return await _pause(unit, run)  # nothing is lost but what came after the last checkpoint
    if failure.retriable and run.attempt < ATTEMPTS_MAX:
        return await unit.move_run(run, State.QUEUED)
    if failure.retriable:
        message = f"{failure.message} That was attempt {run.attempt}, the last."
        failure = Failure("ATTEMPTS_EXHAUSTED", message, retriable=True)
    failed = await unit.move_run(run, State.FAILED, failure=failure)
    await unit.emit_run("failed", failed)
    return failed
