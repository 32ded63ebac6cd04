"""The control plane under faults: two schedulers, trainers, relays, serving pods and their callers.

Use cases, relay and swapper are the real ones; the store is the one in memory, whose commits are
judged one by one. What may go wrong: anything dies or stalls between two calls, requests and events
come twice or late, answers and the stream are lost, and the clock jumps.
"""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

from services.chassis.outbox import OutboxRelay
from services.scheduler.core.advance_rollouts import advance_rollouts
from services.scheduler.core.lease_run import expire_leases
from services.scheduler.core.pause_run import resume_run
from services.scheduler.core.rollout import ShadowFigures
from services.scheduler.core.run import ACTIVE, Run, State
from services.scheduler.core.tell_trained import tell_trained
from services.scheduler.core.train_domain import consider_training
from tests.support.simulation.callers import POLICY, ROLLOUTS, Callers
from tests.support.simulation.plane import (
    DOMAINS,
    LEASE_SECONDS,
    SCHEDULERS,
    TENANT,
    Act,
    Plane,
    Store,
)
from tests.support.simulation.pods import Pod
from tests.support.simulation.stage import Stepped, require
from tests.support.simulation.trainers import Trainers
from tests.support.simulation.wire import Outbox, Stream

PODS = ("serving-1", "serving-2")
TURNS = 100
ACTIVITIES_MAX = 10
ROUNDS_MAX = 60
"""Of a mesh at rest: enough for every attempt of every run, and for a rollout's time."""
EXPERIENCED_SHARE = 0.7
"""Of the schedules that begin with heads in use."""
OPEN_STEPS = {"waiting", "shadow", "canary"}


class Control(Plane):
    """The control plane of one schedule."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.callers, self.trainers = Callers(self), Trainers(self)
        self.outbox = Outbox(self.store)
        self.stream = Stream(self.stage, self.faults)
        self.relays = {name: OutboxRelay(self.outbox, self.stream) for name in SCHEDULERS}  # type: ignore[arg-type]  # what a relay asks of them
        self.pods = {name: self._pod(name) for name in PODS}
        self._actions = _actions(self)

    def begin_after(self, past: "Control") -> None:  # type: ignore[override]
        """Goes on from where another has come to rest."""
        super().begin_after(past)
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

    # What schedulers do by themselves.

    def _reap(self) -> None:
        self._start_scheduler("reap", lambda _: self.ask("reap", expire_leases))

    def _consider(self) -> None:
        self._start_scheduler("consider", self._consider_training)

    async def _consider_training(self, _: str) -> None:
        store, triplets = Store(self, "consider"), Stepped(self.triplets, self.stage)
        await tell_trained(store, triplets)
        await consider_training(store, triplets, self.clock, POLICY)

    def _advance(self) -> None:
        self._start_scheduler("advance", self._advance_rollouts)

    async def _advance_rollouts(self, _: str) -> None:
        store, triplets = Store(self, "advance"), Stepped(self.triplets, self.stage)
        await advance_rollouts(store, triplets, self.clock)

    def _relay(self) -> None:
        self._start_scheduler("relay", lambda name: self.relays[name].publish_batch())

    def _start_scheduler(self, what: str, work: Callable[[str], Any]) -> None:
        """Begins what a scheduler does over and over, one at a time."""
        name = self.stage.pick(SCHEDULERS)
        if not self.is_busy(name, what):
            self.stage.start(name, what, work(name))

    # What serving pods do.

    def _sync(self) -> None:
        name = self.stage.pick(PODS)
        self.stage.start(name, "sync", self.pods[name].sync())

    def _refresh(self) -> None:
        name = self.stage.pick(PODS)
        if not self.is_busy(name, "refresh"):
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
        self.stage.start(server, "report figures", self.ask("figures", act))

    # What goes wrong.

    def _pass_time(self) -> None:
        seconds = self.stage.pick((1.0, 10.0, 31.0, 31.0, 61.0, 3_600.0))
        self.clock.advance(seconds)
        for pod in self.pods.values():
            pod.seconds += seconds

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
                self.stage.start("caller", "resume run", self.ask("resume run", act))
        self.stage.finish()
        state = self.store._state
        work = {
            self._reap: state.expiries,
            self.trainers.start: any(r.state is State.QUEUED for r in state.runs.values()),
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
        self.clock.advance(2 * LEASE_SECONDS)
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


@cache
def experienced() -> Control:
    """A control plane whose domains have had two heads in use; in one a third is rolled out."""
    control = Control(0)
    control.faults, control.gate = 0.0, 1.0
    control.stream.faults = 0.0
    for _ in range(2):
        for domain in DOMAINS:
            control.stage.start("caller", "train", control.callers.ask_for_run(domain, force=True))
        control.stage.finish()
        while control._left():
            control._round()
    domain = DOMAINS[0]
    control.store._state.rollouts.policies[TENANT, domain] = ROLLOUTS[-1]
    control.stage.start("caller", "train", control.callers.ask_for_run(domain, force=True))
    control.stage.finish()
    control.trainers.start()
    control.stage.finish()
    assert control._open_rollouts()
    return control


def _actions(control: Control) -> tuple[list[Callable[[], None]], list[float]]:
    weighed = {
        control.callers.train: 6.0,
        control.trainers.start: 12.0,
        control.callers.steer: 5.0,
        control.callers.move_pointer: 2.5,
        control.callers.choose_rollouts: 0.7,
        control.callers.steer_rollout: 1.0,
        control.callers.report_outcomes: 1.0,
        control._reap: 5.0,
        control._consider: 2.0,
        control._advance: 1.5,
        control._relay: 3.0,
        control._sync: 4.0,
        control._refresh: 1.5,
        control._match: 2.0,
        control._reload: 1.0,
        control._report_figures: 1.5,
        control._pass_time: 6.0,
        control._kill: 2.0,
        control._lose_stream: 0.3,
        control._arrive_late: 1.0,
    }
    # No two schedules are alike in what they do much of (swarm testing: Groce et al. 2012).
    drawn = [weight * control.stage.pick((0.0, 1.0, 1.0, 4.0)) for weight in weighed.values()]
    return list(weighed), list(itertools.accumulate([*drawn[:-1], drawn[-1] + 0.1]))
