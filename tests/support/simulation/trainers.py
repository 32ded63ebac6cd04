"""Trainers as the contract has them: whoever holds a run and its token; they stall and repeat."""

import datetime

from services.scheduler.core.complete_run import complete_run
from services.scheduler.core.lease_run import (
    Directive,
    Lease,
    fail_run,
    heartbeat_run,
    lease_run,
    release_run,
)
from services.scheduler.core.ports import Heartbeat
from services.scheduler.core.run import Failure, Run, State
from services.scheduler.core.verdict import Interval, Quality, Rule, Verdict
from tests.support.simulation.plane import LEASE_SECONDS, TENANT, Act, Answer, Plane
from tests.support.simulation.rules import Holder
from tests.support.simulation.stage import Turn

TRAINERS = ("trainer-1", "trainer-2", "trainer-3")
PHASES = (State.STARTING, State.RUNNING, State.RUNNING, State.EVALUATING, State.EXPORTING)
STALL_SECONDS_MAX = 2 * LEASE_SECONDS
_HALF = Interval(0.4, 0.5, 0.6)
_QUALITY = Quality(ndcg_at_10=_HALF, auc=_HALF, calibration_error=None)


def verdict_of(token: int, *, passed: bool) -> Verdict:
    """The gate's word on what was learned under a token, which is its count of outcomes."""
    return Verdict(
        promoted=passed,
        reasons=(),
        incumbent="general",
        challenger_quality=_QUALITY,
        incumbent_quality=_QUALITY,
        ndcg_at_10_gain=_HALF,
        auc_gain=_HALF,
        seekers_count=100,
        outcomes_count=token,
        rules=(Rule("better", passed, 0.5, 0.4, "It is better."),),
    )


class Trainers:
    """Some trainers."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def start(self) -> None:
        """Lets one look for a run, if one of them has none."""
        if idle := [name for name in TRAINERS if not self._plane.is_busy(name, "train")]:
            trainer = self._plane.stage.pick(idle)
            self._plane.stage.start(trainer, "train", self._work(trainer))

    async def _work(self, trainer: str) -> None:
        act: Act[Lease | None] = lambda unit: lease_run(unit, trainer, LEASE_SECONDS)  # noqa: E731
        lease = await self._call("lease", act)
        if lease is None:
            return
        run = lease.run
        key = (TENANT, run.run_id, run.token)
        phases = PHASES if self._plane.faults else PHASES[:1]  # at rest all goes its way
        for done, phase in enumerate(phases, 1):
            directive = await self._beat(run, phase, done)
            if directive is Directive.CANCEL:
                return
            if directive is Directive.PAUSE:
                await self._call("release", lambda unit: release_run(unit, *key), run)
                return
            if directive is Directive.STOP:
                break
            if self._plane.stage.chance(self._plane.faults / 2):
                await self._give_up(run)
                return
        await self._complete(run)

    async def _beat(self, run: Run, phase: State, done: int) -> Directive:
        heartbeat = Heartbeat(
            phase=phase,
            steps_done_count=done,
            steps_count=len(PHASES),
            loss_points=(),
            snapshot_digest="",
            checkpoint_digest=f"{run.token}/{done}",
        )
        key = (TENANT, run.run_id, run.token)
        return await self._call(
            "heartbeat",
            lambda unit: heartbeat_run(unit, *key, seconds=LEASE_SECONDS, heartbeat=heartbeat),
            run,
        )

    async def _give_up(self, run: Run) -> None:
        failure = Failure("TRAINER_ERROR", "It broke.", retriable=self._plane.stage.chance(0.7))
        key = (TENANT, run.run_id, run.token)
        await self._call("fail", lambda unit: fail_run(unit, *key, failure), run)

    async def _complete(self, run: Run) -> None:
        passed = self._plane.stage.chance(self._plane.gate)
        self._plane.rules.passed.setdefault((TENANT, run.run_id), {})[run.token] = passed
        act: Act[Verdict] = lambda unit: complete_run(  # noqa: E731
            unit,
            self._plane.clock,
            tenant=TENANT,
            run_id=run.run_id,
            token=run.token,
            manifest_digest=f"{run.token}",
            verdict=verdict_of(run.token, passed=passed),
        )
        await self._call("complete", act, run)

    async def _call(self, asked: str, act: Act[Answer], run: Run | None = None) -> Answer:
        """A trainer's call: it may come twice, the second time much later, and is repeated."""
        holder = None if run is None else Holder((TENANT, run.run_id), run.token)
        if self._plane.stage.chance(self._plane.faults):
            self._plane.stage.start("network", f"late {asked}", self._ask_late(asked, act, holder))
        if self._plane.stage.chance(self._plane.faults):
            await self._stall()
        while True:
            answer = await self._plane.ask(asked, act, holder)
            if not self._plane.stage.chance(self._plane.faults):
                return answer

    async def _ask_late(self, asked: str, act: Act[Answer], holder: Holder | None) -> None:
        await self._stall()
        await self._plane.ask(asked, act, holder)

    async def _stall(self) -> None:
        """Nothing happens for about a lease, or until the faults end."""
        seconds = self._plane.random.uniform(0.0, STALL_SECONDS_MAX)
        end = self._plane.clock.now() + datetime.timedelta(seconds=seconds)
        await Turn(lambda: self._plane.clock.now() >= end or not self._plane.faults)
