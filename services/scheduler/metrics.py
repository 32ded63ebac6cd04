"""What operators see of runs and heads."""

from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from services.scheduler.core.rollout import ACTIVE as ROLLING
from services.scheduler.core.rollout import OPEN, Rollout, Step
from services.scheduler.core.run import ACTIVE
from services.scheduler.core.verdict import GENERAL

RUNS = Gauge("trine_runs", "Runs that have not ended, by state.", ("state",))
QUEUE_AGE_SECONDS = Gauge("trine_run_queue_age_seconds", "Age of the oldest queued run.")
RUN_SECONDS = Histogram(
    "trine_run_duration_seconds",
    "Time from a run's first lease to its end, by result.",
    ("result",),
    buckets=(1, 2, 5, 10, 30, 60, 300, 900, 1800, 3600, 4 * 3600),
)
GATE = Counter("trine_gate_total", "Verdicts of the gate.", ("result",))
ROLLBACKS = Counter("trine_head_rollbacks_total", "Heads rolled back by hand.")
LEASES_EXPIRED = Counter("trine_lease_expired_total", "Leases taken back from silent trainers.")
STALE_TOKENS = Counter("trine_stale_token_rejected_total", "Calls of trainers without the lease.")
HEAD_PROMOTED = Gauge(
    "trine_head_promoted_timestamp_seconds",
    "When this process last promoted a head of the domain.",
    ("tenant", "domain"),
)


ROLLOUTS_ENDED = Counter(
    "trine_rollouts_ended_total",
    "Rollouts that this process has ended by their figures.",
    ("status",),
)
_LABELS = ("tenant", "domain", "head", "arm")
ARM_MATCHES = Gauge("trine_rollout_matches", "Matches answered in a rollout under way.", _LABELS)
ARM_OUTCOMES = Gauge("trine_rollout_outcomes", "Outcomes of these matches.", _LABELS)
ARM_POSITIVES = Gauge("trine_rollout_positive_outcomes", "Those that are positive.", _LABELS)


def show_rollouts(rollouts: Sequence[Rollout]) -> None:
    """Sets the gauges of rollouts under way and counts those that have just ended."""
    for gauge in (ARM_MATCHES, ARM_OUTCOMES, ARM_POSITIVES):
        gauge.clear()
    for rollout in rollouts:
        if rollout.step not in OPEN:
            ROLLOUTS_ENDED.labels(rollout.step).inc()
        if rollout.step is Step.PROMOTED:
            HEAD_PROMOTED.labels(rollout.tenant, rollout.domain).set_to_current_time()
        if rollout.step in ROLLING:
            _show_arms(rollout)


def _show_arms(rollout: Rollout) -> None:
    arms = (
        ("challenger", rollout.head, rollout.challenger),
        ("incumbent", rollout.incumbent or GENERAL, rollout.incumbent_arm),
    )
    for arm, head, counts in arms:
        labels = (rollout.tenant, rollout.domain, head, arm)
        ARM_MATCHES.labels(*labels).set(counts.matches_count)
        ARM_OUTCOMES.labels(*labels).set(counts.outcomes_count)
        ARM_POSITIVES.labels(*labels).set(counts.positives_count)


def show_runs(counts: dict[str, tuple[int, float]]) -> None:
    """Sets the gauges from (runs, age of the oldest in seconds) by state."""
    for state in ACTIVE:
        RUNS.labels(state).set(counts.get(state, (0, 0.0))[0])
    QUEUE_AGE_SECONDS.set(counts.get("queued", (0, 0.0))[1])
