"""What operators see of runs and heads."""

from prometheus_client import Counter, Gauge, Histogram

from services.scheduler.core.run import ACTIVE

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


def show_runs(counts: dict[str, tuple[int, float]]) -> None:
    """Sets the gauges from (runs, age of the oldest in seconds) by state."""
    for state in ACTIVE:
        RUNS.labels(state).set(counts.get(state, (0, 0.0))[0])
    QUEUE_AGE_SECONDS.set(counts.get("queued", (0, 0.0))[1])
