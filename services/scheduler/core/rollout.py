"""A head on its way into use, and the states it may go through.

waiting → shadow → canary → promoted
   │         │        ├─→ returned: an error, a regression, or too little to decide by
   └─────────┴────────┴─→ aborted: by people, or the head it was measured against is out of use
Each of the first three only if it is needed. What a state decides by is pure: see `next_move`.
"""

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.scheduler.core.rollout_policy import CanaryPolicy, RolloutPolicy, ShadowPolicy
from services.scheduler.core.sequential_test import ArmCounts, confidence_sequence
from services.scheduler.core.verdict import Interval

LOOK_SHARE = 0.01
"""A canary's arms are counted again once it is older by this share: reading them costs as much as
there is, so all looks together cost a hundred times the logarithm of a rollout's age."""


class Step(enum.StrEnum):
    """Where a rollout stands; the values are what the API shows."""

    WAITING = "waiting"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    RETURNED = "returned"
    ABORTED = "aborted"


ACTIVE = frozenset({Step.SHADOW, Step.CANARY})
"""Serving has the challenger; a domain has at most one such rollout."""

OPEN = ACTIVE | {Step.WAITING}

_ENDS = frozenset({Step.PROMOTED, Step.RETURNED, Step.ABORTED})

MOVES: dict[Step, frozenset[Step]] = {
    Step.WAITING: frozenset({Step.SHADOW, Step.CANARY, Step.ABORTED}),
    Step.SHADOW: frozenset({Step.CANARY}) | _ENDS,
    Step.CANARY: _ENDS,
    **{end: frozenset() for end in _ENDS},
}
"""Every legal move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFigures:
    """What serving has seen of a challenger: sums over its processes."""

    matches_count: int = 0
    errors_count: int = 0
    dropped_count: int = 0
    overlap_sum: float = 0.0
    rank_correlation_sum: float = 0.0
    correlated_count: int = 0
    challenger_seconds_sum: float = 0.0
    incumbent_seconds_sum: float = 0.0
    error: str = ""
    """What the first one said."""


def total(reports: Iterable[ShadowFigures]) -> ShadowFigures:
    """What several processes have seen together."""
    known = list(reports)
    sums = {
        name: sum(getattr(report, name) for report in known)
        for name in ShadowFigures.__dataclass_fields__
        if name != "error"
    }
    return ShadowFigures(
        **sums, error=min((report.error for report in known if report.error), default="")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One head on its way into use."""

    tenant: str
    domain: str
    rollout_id: str
    head: str
    incumbent: str
    """The head in use meanwhile; empty for the encoder alone."""
    policy: RolloutPolicy
    """As it was when the rollout was made."""
    step: Step
    create_time: datetime.datetime
    step_time: datetime.datetime
    """When it reached its step."""
    end_time: datetime.datetime | None = None
    reason: str = ""
    """Why it ended."""
    figures: ShadowFigures = field(default_factory=ShadowFigures)
    challenger: ArmCounts = field(default_factory=ArmCounts)
    incumbent_arm: ArmCounts = field(default_factory=ArmCounts)
    look_time: datetime.datetime | None = None
    """When the arms were last counted."""

    @property
    def gain(self) -> Interval | None:
        """The challenger's gain in positive outcomes, as far as it is known."""
        return confidence_sequence(self.challenger, self.incumbent_arm)

    @property
    def share(self) -> float:
        """Of matches or seekers, whichever the step draws."""
        step = self.policy.shadow if self.step is Step.SHADOW else self.policy.canary
        return step.share if step is not None and self.step in ACTIVE else 0.0

    def look_due(self, now: datetime.datetime) -> bool:
        """Whether the arms are to be counted again."""
        if self.look_time is None:
            return True
        return now - self.look_time >= (self.look_time - self.step_time) * LOOK_SHARE


@dataclass(frozen=True, slots=True)
class Move:
    """What shall become of a rollout, and why."""

    step: Step
    reason: str = ""


def rollout_id_of(run_id: str) -> str:
    """The rollout of a run's head: one, at most."""
    return f"ro_{run_id.removeprefix('tr_')}"


def first_step(policy: RolloutPolicy) -> Step:
    """Where a rollout begins."""
    return Step.SHADOW if policy.shadow is not None else Step.CANARY


def next_move(rollout: Rollout, now: datetime.datetime) -> Move | None:
    """What the figures say; None for going on. For rollouts in shadow or canary."""
    if rollout.figures.errors_count:
        error = rollout.figures.error or "unknown"
        return Move(Step.RETURNED, f"The challenger failed in serving: {error}")
    age = (now - rollout.step_time).total_seconds()
    shadow, canary = rollout.policy.shadow, rollout.policy.canary
    if rollout.step is Step.SHADOW and shadow is not None:
        return _after_shadow(rollout.figures, shadow, canary, age)
    assert canary is not None
    return _after_canary(rollout, canary, age)


def _after_shadow(
    figures: ShadowFigures, shadow: ShadowPolicy, canary: CanaryPolicy | None, age: float
) -> Move | None:
    count = figures.matches_count
    if count >= shadow.matches_min and age >= shadow.seconds_min:
        if canary is not None:
            return Move(Step.CANARY)
        return Move(Step.PROMOTED, f"It ranked {count} matches unseen without an error.")
    if age >= shadow.seconds_max:
        rule = f"{count} matches were ranked unseen, {shadow.matches_min} are needed"
        return Move(Step.RETURNED, f"The time is up: {rule}.")
    return None


def _after_canary(rollout: Rollout, canary: CanaryPolicy, age: float) -> Move | None:
    gain, arms = rollout.gain, (rollout.challenger, rollout.incumbent_arm)
    told = (
        f"positive outcomes {arms[0].rate:.4f} of {arms[0].outcomes_count} against "
        f"{arms[1].rate:.4f} of {arms[1].outcomes_count}"
    )
    if gain is not None:
        told += f", gain {gain.mid:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        if gain.high < 0:
            return Move(Step.RETURNED, f"It has regressed: {told}.")
    enough = gain is not None and min(arm.outcomes_count for arm in arms) >= canary.outcomes_min
    if enough and gain is not None and gain.low > -canary.loss_max and age >= canary.seconds_min:
        return Move(Step.PROMOTED, f"It loses less than {canary.loss_max:g}: {told}.")
    if age < canary.seconds_max:
        return None
    if enough and gain is not None and gain.mid >= -canary.loss_max:
        return Move(Step.PROMOTED, f"The time is up, and it does not look worse: {told}.")
    rule = (
        "it looks worse" if enough else f"each arm needs {canary.outcomes_min} outcomes to judge by"
    )
    return Move(Step.RETURNED, f"The time is up, and {rule}: {told}.")
