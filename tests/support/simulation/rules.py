"""What must hold of the scheduler's store after each commit, told without the code that it judges.

Each commit comes with what was asked for ("heartbeat", "reap" …) and, where a trainer asked, with
the run and token that it claims to hold.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.scheduler.core.rollout import Rollout
from services.scheduler.core.run import Run, State
from services.scheduler.core.run_events import Move
from services.scheduler.memory import _State
from tests.support.simulation.stage import require

RunKey = tuple[str, str]
Span = tuple[datetime.datetime, datetime.datetime]
ATTEMPTS_MAX = 3
LEASED = {"starting", "running", "evaluating", "exporting", "pausing", "stopping"}
ENDED = {"succeeded", "stopped", "cancelled", "failed"}
STEERING = {"roll back", "pin"}
"""What may move a pinned pointer: people."""
_PHASES = ["starting", "running", "evaluating", "exporting"]
_NEXT = {
    "queued": {"starting", "paused", "cancelled"},
    "pausing": {"paused", "cancelled", "failed", "succeeded"},
    "paused": {"queued", "cancelled"},
    "stopping": {"queued", "stopped", "cancelled", "failed"},
}
_ENDS_OF_PHASES = {"queued", "succeeded", "cancelled", "failed"}
_TOLD = {
    "paused": "paused",
    "succeeded": "completed",
    "stopped": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A trainer's claim."""

    run: RunKey
    token: int


@dataclass
class StoreRules:
    """Judges commits, one after the other."""

    lease: datetime.timedelta
    leased_until: dict[RunKey, datetime.datetime] = field(default_factory=dict)
    """By the store's clock, from what was granted alone."""
    token: int = 0
    """The largest that was handed out."""
    passed: dict[RunKey, dict[int, bool]] = field(default_factory=dict)
    """What the gate said of a run's head, by the token that it was sent under."""
    told: dict[RunKey, list[str]] = field(default_factory=dict)
    """Events of each run."""

    def judge(
        self,
        asked: str,
        holder: Holder | None,
        before: _State,
        after: _State,
        span: Span,
    ) -> None:
        """Looks at what a commit has changed; `span` is when it began and when it ended.

        Raises:
            Violation: something must not be so.
        """
        changed = [key for key, run in after.runs.items() if before.runs.get(key) is not run]
        if holder is not None:
            self._judge_holder(holder, before, after, changed)
        for kind, about in after.events[len(before.events) :]:
            if isinstance(about, Run):
                key = (about.job.tenant, about.run_id)
                self.told.setdefault(key, []).append(kind.removeprefix("run."))
        for key in changed:
            self._judge_run(asked, key, before, after, span)
        require(set(before.runs) <= set(after.runs), "I15", "a run is gone")
        self._judge_leases(after)
        self._judge_pointers(asked, before, after)
        self._judge_rollouts(before, after)

    def _judge_holder(
        self, holder: Holder, before: _State, after: _State, changed: list[RunKey]
    ) -> None:
        run = before.runs[holder.run]
        if run.token != holder.token or run.state in {"queued", "paused"} | ENDED:
            still = not changed and after.pointers == before.pointers
            still = still and len(after.events) == len(before.events)
            still = still and after.heads.keys() == before.heads.keys()
            require(still, "I6", f"{holder} changed a run that it does not hold: {run.state}")
        require(set(changed) <= {holder.run}, "I6", f"{holder} changed {changed}")

    def _judge_run(
        self, asked: str, key: RunKey, before: _State, after: _State, span: Span
    ) -> None:
        run, old = after.runs[key], before.runs.get(key)
        moves = after.moves[key]
        known = before.moves.get(key, ())
        require(moves[: len(known)] == known, "I15", f"{key}: history was rewritten")
        state, attempt, told = _fold(moves)
        is_now = f"it is {run.state}, attempt {run.attempt}"
        require(
            (state, attempt) == (run.state, run.attempt),
            "I15",
            f"{key}: its history says {state}, attempt {attempt}; {is_now}",
        )
        require(attempt <= ATTEMPTS_MAX, "I15", f"{key}: attempt {attempt}")
        require(self.told[key] == told, "I13", f"{key}: {self.told[key]} for {told}")
        ended = old is not None and old.state in ENDED
        require(not ended, "I15", f"{key} had ended and changed")
        if old is None or run.token != old.token:
            grows = old is None or run.token > self.token
            require(grows, "I6", f"{key}: the token {run.token} after {self.token}")
            self.token = max(self.token, run.token)
        if asked in {"lease", "heartbeat"}:
            self.leased_until[key] = span[0] + self.lease
        if asked == "reap":
            early = self.leased_until[key] >= span[1]
            require(not early, "I19", f"{key} was taken back before its lease's end")
        if run.head and run.head != getattr(old, "head", ""):
            verdict = after.heads[key[0], run.head].verdict
            mine = verdict.outcomes_count == run.token
            require(mine, "I6", f"{run.head} has the verdict of {verdict.outcomes_count}")

    def _judge_leases(self, after: _State) -> None:
        active: set[tuple[str, str]] = set()
        for key, run in after.runs.items():
            leased = run.state in LEASED
            require(leased == (key in after.expiries), "I5", f"{key} is {run.state}; its lease")
            if run.state not in ENDED:
                domain = (run.job.tenant, run.job.domain)
                require(domain not in active, "I4", f"two active runs of {domain}")
                active.add(domain)

    def _judge_pointers(self, asked: str, before: _State, after: _State) -> None:
        pointers = dict(before.pointers)
        for (tenant, domain), head, previous in after.promotions[len(before.promotions) :]:
            in_use = pointers.get((tenant, domain), "")
            require(previous == in_use, "I9", f"{head} took the place of {previous}, not {in_use}")
            pinned = (tenant, domain) in before.pinned
            require(not pinned or asked in STEERING, "I9", f"{asked} moved a pinned pointer")
            pointers[tenant, domain] = head
            if not head:
                continue
            run = after.runs[tenant, after.heads[tenant, head].run_id]
            earned = self.passed[tenant, run.run_id].get(run.token, False)
            require(earned, "I9", f"{head} is in use and did not pass the gate")
            if asked == "complete":
                fair = run.incumbent == previous
                require(fair, "I9", f"{head} was measured against {run.incumbent}, not {previous}")
        require(pointers == after.pointers, "I9", "the pointer moved without a record")
        self._judge_head_events(before, after)

    def _judge_head_events(self, before: _State, after: _State) -> None:
        told = [
            (about[:2], "" if about[2] is None else about[2].head)
            for kind, about in after.events[len(before.events) :]
            if kind in {"head.promoted", "head.rolled_back", "head.pinned"}
            and isinstance(about, tuple)
        ]
        moved = [(key, head) for key, head, _ in after.promotions[len(before.promotions) :]]
        require(set(moved) <= set(told), "I13", f"{moved} happened and {told} was told")

    def _judge_rollouts(self, before: _State, after: _State) -> None:
        old, new = before.rollouts.rollouts, after.rollouts.rollouts
        changed = [r for key, r in new.items() if old.get(key) is not r]
        told = {
            (about.rollout_id, about.step)
            for kind, about in after.events[len(before.events) :]
            if isinstance(about, Rollout)
        }
        for rollout in changed:
            was = old.get((rollout.tenant, rollout.rollout_id))
            moved = was is None or was.step is not rollout.step
            if moved:
                heard = (rollout.rollout_id, rollout.step) in told
                require(heard, "I13", f"{rollout.rollout_id} is {rollout.step} and nobody heard")
                over = was is not None and was.step in {"promoted", "returned", "aborted"}
                require(not over, "I15", f"{rollout.rollout_id} had ended and moved")
        if not changed and before.pointers == after.pointers:
            return
        under_way: set[tuple[str, str]] = set()
        for rollout in new.values():
            if rollout.step in {"shadow", "canary"}:
                key = (rollout.tenant, rollout.domain)
                require(key not in under_way, "I4", f"two rollouts of {key}")
                under_way.add(key)
                fair = after.pointers.get(key, "") == rollout.incumbent
                require(fair, "I9", f"{rollout.rollout_id} measures against what is out of use")


def _fold(moves: Sequence[Move]) -> tuple[State, int, list[str]]:
    """State, attempt and events that a history comes to.

    Raises:
        Violation: it is none that a run may have.
    """
    state, attempt = "queued", 0
    told = ["queued"]
    require(moves[0].state == "queued" and moves[0].attempt == 0, "I15", f"{moves[0]}")
    for number, move in enumerate(moves[1:], 2):
        at = move.state.value
        require(move.number == number, "I15", f"move {move.number} is the {number}th")
        require(at in _successors(state), "I15", f"{state} → {at}")
        if at == "starting":
            attempt = max(attempt, 1)
            if "started" not in told:
                told.append("started")
        elif at == "queued" and state == "paused":
            told.append("resumed")
        elif at == "queued":
            attempt += 1
        if at in _TOLD:
            told.append(_TOLD[at])
        require(move.attempt == attempt, "I15", f"{move} in attempt {attempt}")
        state = at
    return State(state), attempt, told


def _successors(state: str) -> set[str]:
    if state not in _PHASES:
        return _NEXT.get(state, set())
    index = _PHASES.index(state)
    steered = {"pausing", "stopping"} if index < 2 else set()
    return {*_PHASES[index + 1 :], *_ENDS_OF_PHASES, *steered}
