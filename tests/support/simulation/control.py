"""The control plane under faults: two schedulers, trainers, relays, serving pods and their callers.

Use cases, relay and swapper are the real ones; the store is the one in memory, whose commits are
judged one by one. What may go wrong: anything dies or stalls between two calls, requests and events
come twice or late, answers and the stream are lost, and every clock jumps but the store's.
"""

import dataclasses
import datetime
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from services.chassis.bus import PublishError
from services.chassis.clock import ManualClock
from services.chassis.copies import copy_changeable
from services.chassis.outbox import OutboxRelay
from services.scheduler.core.advance_rollouts import (
    abort_rollout,
    advance_rollouts,
    promote_rollout,
)
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.complete_run import complete_run
from services.scheduler.core.errors import SchedulerError
from services.scheduler.core.lease_run import (
    Directive,
    Lease,
    expire_leases,
    fail_run,
    heartbeat_run,
    lease_run,
    release_run,
)
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.pin_head import pin_head, unpin_head
from services.scheduler.core.ports import (
    DomainCounts,
    Heartbeat,
    SchedulerUnit,
)
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.rollout import ShadowFigures
from services.scheduler.core.rollout_policy import CanaryPolicy, RolloutPolicy, ShadowPolicy
from services.scheduler.core.run import ACTIVE, Failure, Run, State
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.core.stop_run import stop_run
from services.scheduler.core.tell_trained import tell_trained
from services.scheduler.core.train_domain import consider_training, train_domain
from services.scheduler.core.training_policy import TrainingPolicy
from services.scheduler.core.verdict import Interval, Quality, Rule, Verdict
from services.scheduler.memory import MemorySchedulerStore
from services.serving.core.errors import ServingError
from tests.support.simulation.pods import Pod
from tests.support.simulation.rules import Holder, RunKey, StoreRules
from tests.support.simulation.stage import Stage, Stepped, Turn, require
from tests.support.simulation.wire import Outbox, Stream

TENANT = "acme"
DOMAINS = ("dating", "hiring")
START = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
LEASE_SECONDS = 30.0
POLICY = TrainingPolicy(triplets_budget=100, cool_down=datetime.timedelta(minutes=5))
TURNS = 160
ACTIVITIES_MAX = 10
ROUNDS_MAX = 60
"""Of a mesh at rest: enough for every attempt of every run, and for a rollout's time."""
FAULTS = 0.2
EXPERIENCED_SHARE = 0.7
"""Of the schedules that begin with heads in use."""
SKEW_SECONDS = 3_600
STALL_SECONDS_MAX = 2 * LEASE_SECONDS
ROLLOUTS = (
    RolloutPolicy(),
    RolloutPolicy(),
    RolloutPolicy(shadow=ShadowPolicy(matches_min=5, seconds_max=600)),
    RolloutPolicy(
        shadow=ShadowPolicy(matches_min=5, seconds_max=600),
        canary=CanaryPolicy(outcomes_min=20, seconds_max=600),
    ),
)
SCHEDULERS = ("scheduler-1", "scheduler-2")
TRAINERS = ("trainer-1", "trainer-2", "trainer-3")
PODS = ("serving-1", "serving-2")
PHASES = (State.STARTING, State.RUNNING, State.RUNNING, State.EVALUATING, State.EXPORTING)
Answer = TypeVar("Answer")
Act = Callable[[SchedulerUnit], Awaitable[Answer]]

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


@dataclass
class SkewedClock:
    """A process's own clock, which is wrong by as much as the seed says."""

    true: ManualClock
    skew: float = 0.0

    def now(self) -> datetime.datetime:
        """What it shows."""
        return self.true.now() + datetime.timedelta(seconds=self.skew)


@dataclass
class Triplets:
    """The triplet store as far as training needs it."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 60))
    trained: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 0))
    arms: tuple[ArmCounts, ArmCounts] = (ArmCounts(), ArmCounts())

    async def get(self, tenant: str, domain: str) -> DomainCounts:
        """Counts of a domain."""
        return DomainCounts(
            tenant=tenant,
            domain=domain,
            revision=self.counts[domain],
            triplets_count=self.counts[domain],
            positives_count=0,
            trained_triplets_count=self.trained[domain],
        )

    async def list(self) -> list[DomainCounts]:
        """Counts of all."""
        return [await self.get(TENANT, domain) for domain in DOMAINS if self.counts[domain]]

    async def count_arms(self, *_: str) -> tuple[ArmCounts, ArmCounts]:
        """What both arms have brought."""
        return self.arms

    async def record_training(self, _tenant: str, domain: str, triplets_count: int) -> None:
        """Remembers what the last run saw."""
        self.trained[domain] = triplets_count


class Store:
    """The store as one request sees it: steps between its calls, and a judge at its commit."""

    def __init__(self, control: "Control", asked: str, holder: Holder | None = None) -> None:
        self._control = control
        self._asked = asked
        self._holder = holder

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SchedulerUnit]:
        """Opens a unit once there is no other."""
        control = self._control
        await Turn(lambda: not control.writing)
        control.writing = True
        try:
            before, began = control.store._state, control.database.now()
            async with control.store.begin() as unit:
                yield Stepped(unit, control.stage)
                await Turn()
            ended, after = control.database.now(), control.store._state
            control.rules.judge(self._asked, self._holder, before, after, (began, ended))
        finally:
            control.writing = False
        await Turn()

    def __getattr__(self, name: str) -> Any:
        return getattr(Stepped(self._control.store, self._control.stage), name)


class Control:
    """The control plane of one schedule."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.stage = Stage(
            self.random, (SchedulerError, ServingError, ConnectionError, PublishError)
        )
        self.faults = FAULTS * self.random.random()
        self.database = ManualClock(START)
        self.store = MemorySchedulerStore(self.database)
        self.writing = False
        self.rules = StoreRules(datetime.timedelta(seconds=LEASE_SECONDS))
        self.triplets = Triplets()
        self.outbox = Outbox(self.store)
        self.stream = Stream(self.stage, self.faults)
        self.relays = {name: OutboxRelay(self.outbox, self.stream) for name in SCHEDULERS}  # type: ignore[arg-type]  # what a relay asks of them
        self.clocks = {name: SkewedClock(self.database) for name in SCHEDULERS}
        self.pods = {name: self._pod(name) for name in PODS}
        self.acknowledged: set[RunKey] = set()
        self.gate = 0.75
        """How often a head passes."""
        self._actions = _actions(self)

    def begin_after(self, past: "Control") -> None:
        """Goes on from where another has come to rest."""
        self.database.advance((past.database.now() - START).total_seconds())
        self.store._state = copy_changeable(past.store._state)
        self.store._told = set(past.store._told)
        self.rules = copy_changeable(past.rules)
        self.triplets = copy_changeable(past.triplets)
        self.outbox.published = set(past.outbox.published)
        self.stream.heard, self.stream.known = list(past.stream.heard), set(past.stream.known)

    def run(self) -> None:
        """Lets everything happen, then lets it come to rest.

        Raises:
            Violation: an invariant does not hold.
        """
        if self.stage.chance(EXPERIENCED_SHARE):
            self.begin_after(experienced())
        for domain in DOMAINS:
            policy = self.stage.pick(ROLLOUTS)
            self.store._state.rollouts.policies[TENANT, domain] = policy
        for _ in range(TURNS):
            under_way = len(self.stage.activities)
            if (
                under_way < 2
                or (under_way < ACTIVITIES_MAX and self.stage.chance(0.25))
                or not self.stage.step()
            ):
                self._act()
        self._settle()

    def _pod(self, name: str) -> Pod:
        pod = Pod(name, self.stage, self.store, self.faults)
        for domain in DOMAINS:
            pod.install((TENANT, domain))
        return pod

    def _act(self) -> None:
        names, weights = self._actions
        action = self.random.choices(names, cum_weights=weights)[0]
        self.stage.note(f"> {action.__name__.strip('_')}")
        action()

    # What callers do.

    def _train(self) -> None:
        domain, force = self.stage.pick(DOMAINS), self.stage.chance(0.7)
        for _ in range(2 if self.stage.chance(0.2) else 1):
            self.stage.start("caller", f"train {domain}", self._ask_for_run(domain, force=force))

    async def _ask_for_run(self, domain: str, *, force: bool) -> None:
        counts = await Stepped(self.triplets, self.stage).get(TENANT, domain)
        run = await self._ask("train", lambda unit: train_domain(unit, counts, POLICY, force=force))
        self.acknowledged.add((TENANT, run.run_id))

    def _steer(self) -> None:
        steer = self.stage.pick(
            (cancel_run, pause_run, resume_run, stop_run, pause_run, resume_run)
        )
        runs = list(self.store._state.runs.values())
        active = [run for run in runs if run.state in ACTIVE] or runs
        if active:
            run_id = self.stage.pick(active).run_id
            name = steer.__name__.replace("_", " ")
            self.stage.start(
                "caller", name, self._ask(name, lambda unit: steer(unit, TENANT, run_id))
            )

    def _move_pointer(self) -> None:
        domain = self.stage.pick(DOMAINS)
        clock = self.clocks[self.stage.pick(SCHEDULERS)]
        heads = [one.head for one in self.store._state.heads.values() if one.domain == domain]
        head = self.stage.pick(["", "", "general", *heads])
        acts: dict[str, Act[Any]] = {
            "roll back": lambda unit: roll_back_head(unit, clock, TENANT, domain, head),
            "pin": lambda unit: pin_head(unit, clock, TENANT, domain, head),
            "unpin": lambda unit: unpin_head(unit, TENANT, domain),
        }
        name = self.stage.pick(("roll back", "roll back", "pin", "unpin", "unpin"))
        self.stage.start("caller", f"{name} {domain} {head}", self._ask(name, acts[name]))

    def _choose_rollouts(self) -> None:
        domain, policy = self.stage.pick(DOMAINS), self.stage.pick(ROLLOUTS)
        act: Act[None] = lambda unit: unit.save_rollout_policy(TENANT, domain, policy)  # noqa: E731
        self.stage.start("caller", f"choose rollouts of {domain}", self._ask("choose", act))

    def _steer_rollout(self) -> None:
        clock = self.clocks[self.stage.pick(SCHEDULERS)]
        steer = self.stage.pick((abort_rollout, promote_rollout))
        if keys := list(self.store._state.rollouts.rollouts):
            tenant, rollout_id = self.stage.pick(keys)
            name = steer.__name__.replace("_", " ")
            act: Act[Any] = lambda unit: steer(unit, clock, tenant, rollout_id)  # noqa: E731
            self.stage.start("caller", name, self._ask(name, act))

    def _report_outcomes(self) -> None:
        self.triplets.counts[self.stage.pick(DOMAINS)] += self.stage.pick((10, 150))
        n, p = 40, self.stage.pick((0, 20, 40))
        arm = ArmCounts(
            matches_count=n,
            seekers_count=n,
            outcomes_count=n,
            positives_count=p,
            outcomes_squared_sum=n,
            products_sum=p,
            positives_squared_sum=p,
        )
        even = dataclasses.replace(
            arm, positives_count=20, products_sum=20, positives_squared_sum=20
        )
        self.triplets.arms = (arm, even)

    # What trainers do.

    def _start_trainer(self) -> None:
        trainer = self.stage.pick(TRAINERS)
        if trainer not in {one.party for one in self.stage.activities}:
            self.stage.start(trainer, "train", self._work(trainer))

    async def _work(self, trainer: str) -> None:
        act: Act[Lease | None] = lambda unit: lease_run(unit, trainer, LEASE_SECONDS)  # noqa: E731
        lease = await self._call("lease", act)
        if lease is None:
            return
        run = lease.run
        key = (TENANT, run.run_id, run.token)
        for done, phase in enumerate(PHASES, 1):
            directive = await self._beat(run, phase, done)
            if directive is Directive.CANCEL:
                return
            if directive is Directive.PAUSE:
                await self._call("release", lambda unit: release_run(unit, *key), run)
                return
            if directive is Directive.STOP:
                break
            if self.stage.chance(self.faults / 2):
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
        failure = Failure("TRAINER_ERROR", "It broke.", retriable=self.stage.chance(0.7))
        key = (TENANT, run.run_id, run.token)
        await self._call("fail", lambda unit: fail_run(unit, *key, failure), run)

    async def _complete(self, run: Run) -> None:
        clock = self.clocks[self.stage.pick(SCHEDULERS)]
        passed = self.stage.chance(self.gate)
        self.rules.passed.setdefault((TENANT, run.run_id), {})[run.token] = passed
        act: Act[Verdict] = lambda unit: complete_run(  # noqa: E731
            unit,
            clock,
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
        if self.stage.chance(self.faults):
            self.stage.start("network", f"late {asked}", self._ask_late(asked, act, holder))
        if self.stage.chance(self.faults):
            await self._stall()
        while True:
            answer = await self._ask(asked, act, holder)
            if not self.stage.chance(self.faults):
                return answer

    async def _ask_late(self, asked: str, act: Act[Answer], holder: Holder | None) -> None:
        await self._stall()
        await self._ask(asked, act, holder)

    async def _stall(self) -> None:
        """Nothing happens for about a lease, or until the faults end."""
        seconds = self.random.uniform(0.0, STALL_SECONDS_MAX)
        end = self.database.now() + datetime.timedelta(seconds=seconds)
        await Turn(lambda: self.database.now() >= end or not self.faults)

    async def _ask(self, asked: str, act: Act[Answer], holder: Holder | None = None) -> Answer:
        async with Store(self, asked, holder).begin() as unit:
            return await act(unit)

    # What schedulers do by themselves.

    def _reap(self) -> None:
        self._start_scheduler("reap", lambda _: self._ask("reap", expire_leases))

    def _consider(self) -> None:
        self._start_scheduler("consider", self._consider_training)

    async def _consider_training(self, scheduler: str) -> None:
        store, triplets = Store(self, "consider"), Stepped(self.triplets, self.stage)
        await tell_trained(store, triplets)
        await consider_training(store, triplets, self.clocks[scheduler], POLICY)

    def _advance(self) -> None:
        self._start_scheduler("advance", self._advance_rollouts)

    async def _advance_rollouts(self, scheduler: str) -> None:
        store, triplets = Store(self, "advance"), Stepped(self.triplets, self.stage)
        await advance_rollouts(store, triplets, self.clocks[scheduler])

    def _relay(self) -> None:
        self._start_scheduler("relay", lambda name: self.relays[name].publish_batch())

    def _start_scheduler(self, what: str, work: Callable[[str], Any]) -> None:
        """Begins what a scheduler does over and over, one at a time."""
        name = self.stage.pick(SCHEDULERS)
        if (name, what) not in {(one.party, one.name) for one in self.stage.activities}:
            self.stage.start(name, what, work(name))

    # What serving pods do.

    def _sync(self) -> None:
        name = self.stage.pick(PODS)
        self.stage.start(name, "sync", self.pods[name].sync())

    def _refresh(self) -> None:
        name = self.stage.pick(PODS)
        if (name, "refresh") not in {(one.party, one.name) for one in self.stage.activities}:
            self.stage.start(name, "refresh", self.pods[name].swapper.refresh_indexes())

    def _match(self) -> None:
        name, domain = self.stage.pick(PODS), self.stage.pick(DOMAINS)
        seeker = f"u{self.stage.pick(range(10))}"
        self.stage.start(name, "match", self.pods[name].match((TENANT, domain), seeker))

    def _reload(self) -> None:
        """Candidates come anew; more often than not in the middle of a swap."""
        busy = [name for name, pod in self.pods.items() if pod.syncing] or PODS
        self.pods[self.stage.pick(busy)].install((TENANT, self.stage.pick(DOMAINS)))

    def _report_figures(self) -> None:
        active = [r for r in self.store._state.rollouts.every() if r.step in {"shadow", "canary"}]
        if not active:
            return
        key, server = (TENANT, self.stage.pick(active).rollout_id), self.stage.pick(PODS)
        errors = int(self.stage.chance(self.faults))
        figures = ShadowFigures(matches_count=self.stage.pick((1, 9)), errors_count=errors)
        act: Act[None] = lambda unit: unit.save_figures(*key, server, figures)  # noqa: E731
        self.stage.start(server, "report figures", self._ask("figures", act))

    # What goes wrong.

    def _pass_time(self) -> None:
        seconds = self.stage.pick((1.0, 10.0, 31.0, 31.0, 120.0, 3_600.0))
        self.database.advance(seconds)
        for pod in self.pods.values():
            pod.seconds += seconds

    def _turn_clock(self) -> None:
        clock = self.clocks[self.stage.pick(SCHEDULERS)]
        clock.skew = self.random.uniform(-SKEW_SECONDS, SKEW_SECONDS)

    def _kill(self) -> None:
        if not self.stage.activities:
            return
        party = self.stage.pick(self.stage.activities).party
        self.stage.kill(party)
        if party in self.pods:
            self.pods[party] = self._pod(party)

    def _lose_stream(self) -> None:
        self.stream.lose()

    def _arrive_late(self) -> None:
        self.stream.arrive()

    # At rest.

    def _settle(self) -> None:
        """Ends the faults, waits for quiet, and sees that nothing is left to do.

        Raises:
            Violation: something is left, or is not as it should be.
        """
        self.stage.note("> rest")
        self.faults = self.stream.faults = 0.0
        for pod in self.pods.values():
            pod.faults = 0.0
        for clock in self.clocks.values():
            clock.skew = 0.0
        while self.stream.late:
            self.stream.arrive()
        self.stage.finish()
        for _ in range(ROUNDS_MAX):
            if not (left := self._left()):
                break
            self._round()
        require(not left, "I5", f"nothing goes on: {left}")
        self._pass_round()  # so that what serving could not load is tried again
        for name, pod in self.pods.items():
            self.stage.start(name, "sync", pod.sync())
        self.stage.finish()
        self._judge_rest()

    def _left(self) -> list[str]:
        state = self.store._state
        left = [f"{run.run_id} {run.state}" for run in state.runs.values() if run.state in ACTIVE]
        left += self._open_rollouts()
        left += [f"event {row_id}" for row_id in self.outbox.waiting]
        runs = [key for key, run in state.runs.items() if run.state in {"succeeded", "stopped"}]
        return left + [f"{key[1]} untold" for key in runs if key not in self.store._told]

    def _open_rollouts(self) -> list[str]:
        rollouts = self.store._state.rollouts.rollouts.values()
        return [one.rollout_id for one in rollouts if one.step in OPEN_STEPS]

    def _round(self) -> None:
        """What the mesh's own loops do, a little later."""
        for run in list(self.store._state.runs.values()):
            if run.state is State.PAUSED:
                act: Act[Run] = lambda u, run_id=run.run_id: resume_run(u, TENANT, run_id)  # type: ignore[misc]  # noqa: E731
                self.stage.start("caller", "resume run", self._ask("resume run", act))
        self.stage.finish()
        state = self.store._state
        work = {
            self._reap: state.expiries,
            self._start_trainer: any(r.state is State.QUEUED for r in state.runs.values()),
            self._report_figures: self._open_rollouts(),
            self._advance: self._open_rollouts(),
            self._consider: True,
            self._relay: True,
        }
        for begin, needed in work.items():
            if needed:
                begin()
        self.stage.finish()
        self._pass_round()

    def _pass_round(self) -> None:
        self.database.advance(2 * LEASE_SECONDS)
        for pod in self.pods.values():
            pod.seconds += 2 * LEASE_SECONDS

    def _judge_rest(self) -> None:
        state = self.store._state
        self.stream.check(state.events, complete=True)
        require(self.acknowledged <= set(state.runs), "I1", "a run was acknowledged and is gone")
        for name, pod in self.pods.items():
            for domain in DOMAINS:
                served = pod.registry.domains[TENANT, domain].head
                wanted = state.pointers.get((TENANT, domain), "")
                right = (served.head if served.bundle is not None else "") == wanted
                require(right, "I9", f"{name} serves {served.head}, the pointer is at {wanted}")


OPEN_STEPS = {"waiting", "shadow", "canary"}


@cache
def experienced() -> Control:
    """A control plane at rest whose domains have had two heads in use, one after the other."""
    control = Control(0)
    control.faults, control.gate = 0.0, 1.0
    control.stream.faults = 0.0
    for _ in range(2):
        for domain in DOMAINS:
            control.stage.start("caller", "train", control._ask_for_run(domain, force=True))
        control.stage.finish()
        while control._left():
            control._round()
    return control


def _actions(control: Control) -> tuple[list[Callable[[], None]], list[float]]:
    weighed = {
        control._train: 6.0,
        control._start_trainer: 10.0,
        control._steer: 5.0,
        control._move_pointer: 2.5,
        control._choose_rollouts: 0.7,
        control._steer_rollout: 1.0,
        control._report_outcomes: 1.0,
        control._reap: 3.0,
        control._consider: 2.0,
        control._advance: 1.5,
        control._relay: 3.0,
        control._sync: 4.0,
        control._refresh: 1.5,
        control._match: 2.0,
        control._reload: 1.0,
        control._report_figures: 1.5,
        control._pass_time: 4.0,
        control._turn_clock: 0.7,
        control._kill: 2.0,
        control._lose_stream: 0.3,
        control._arrive_late: 1.0,
    }
    # No two schedules are alike in what they do much of (swarm testing: Groce et al. 2012).
    drawn = [weight * control.stage.pick((0.0, 1.0, 1.0, 4.0)) for weight in weighed.values()]
    return list(weighed), list(itertools.accumulate([*drawn[:-1], drawn[-1] + 0.1]))
