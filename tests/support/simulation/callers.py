"""Those who ask for runs, steer them, and move pointers while they run."""

import dataclasses
import datetime
from typing import Any

from services.scheduler.core.advance_rollouts import abort_rollout, promote_rollout
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.pin_head import pin_head, unpin_head
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.rollout_policy import CanaryPolicy, RolloutPolicy, ShadowPolicy
from services.scheduler.core.run import ACTIVE
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.core.stop_run import stop_run
from services.scheduler.core.train_domain import train_domain
from services.scheduler.core.training_policy import TrainingPolicy
from tests.support.simulation.plane import DOMAINS, TENANT, Act, Plane
from tests.support.simulation.stage import Stepped

POLICY = TrainingPolicy(triplets_budget=100, cool_down=datetime.timedelta(minutes=5))
ROLLOUTS = (
    RolloutPolicy(),
    RolloutPolicy(),
    RolloutPolicy(),
    RolloutPolicy(shadow=ShadowPolicy(matches_min=5, seconds_max=600)),
    RolloutPolicy(
        shadow=ShadowPolicy(matches_min=5, seconds_max=600),
        canary=CanaryPolicy(outcomes_min=20, seconds_max=600),
    ),
)


class Callers:
    """Whoever has a key; as one party."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def train(self) -> None:
        domain, force = self._plane.stage.pick(DOMAINS), self._plane.stage.chance(0.7)
        for _ in range(2 if self._plane.stage.chance(0.2) else 1):
            self._plane.stage.start(
                "caller", f"train {domain}", self.ask_for_run(domain, force=force)
            )

    async def ask_for_run(self, domain: str, *, force: bool) -> None:
        counts = await Stepped(self._plane.triplets, self._plane.stage).get(TENANT, domain)
        run = await self._plane.ask(
            "train", lambda unit: train_domain(unit, counts, POLICY, force=force)
        )
        self._plane.acknowledged.add((TENANT, run.run_id))

    def steer(self) -> None:
        steer = self._plane.stage.pick(
            (cancel_run, pause_run, resume_run, stop_run, pause_run, resume_run)
        )
        runs = list(self._plane.store._state.runs.values())
        active = [run for run in runs if run.state in ACTIVE] or runs
        if active:
            run_id = self._plane.stage.pick(active).run_id
            name = steer.__name__.replace("_", " ")
            self._plane.stage.start(
                "caller", name, self._plane.ask(name, lambda unit: steer(unit, TENANT, run_id))
            )

    def move_pointer(self) -> None:
        domain = self._plane.stage.pick(DOMAINS)
        clock = self._plane.clock
        heads = [
            one.head for one in self._plane.store._state.heads.values() if one.domain == domain
        ]
        head = self._plane.stage.pick(["", "", "general", *heads])
        acts: dict[str, Act[Any]] = {
            "roll back": lambda unit: roll_back_head(unit, clock, TENANT, domain, head),
            "pin": lambda unit: pin_head(unit, clock, TENANT, domain, head),
            "unpin": lambda unit: unpin_head(unit, TENANT, domain),
        }
        name = self._plane.stage.pick(("roll back", "roll back", "pin", "unpin", "unpin"))
        self._plane.stage.start(
            "caller", f"{name} {domain} {head}", self._plane.ask(name, acts[name])
        )

    def choose_rollouts(self) -> None:
        domain, policy = self._plane.stage.pick(DOMAINS), self._plane.stage.pick(ROLLOUTS)
        act: Act[None] = lambda unit: unit.save_rollout_policy(TENANT, domain, policy)  # noqa: E731
        self._plane.stage.start(
            "caller", f"choose rollouts of {domain}", self._plane.ask("choose", act)
        )

    def steer_rollout(self) -> None:
        clock = self._plane.clock
        steer = self._plane.stage.pick((abort_rollout, promote_rollout))
        if keys := list(self._plane.store._state.rollouts.rollouts):
            tenant, rollout_id = self._plane.stage.pick(keys)
            name = steer.__name__.replace("_", " ")
            act: Act[Any] = lambda unit: steer(unit, clock, tenant, rollout_id)  # noqa: E731
            self._plane.stage.start("caller", name, self._plane.ask(name, act))

    def report_outcomes(self) -> None:
        self._plane.triplets.counts[self._plane.stage.pick(DOMAINS)] += self._plane.stage.pick(
            (10, 150)
        )
        n, p = 40, self._plane.stage.pick((0, 20, 40))
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
        self._plane.triplets.arms = (arm, even)
