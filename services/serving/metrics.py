"""What operators see of matches, heads and candidates."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from services.chassis.crashpoint import crashpoint
from services.serving.core.loaded_head import DOMAIN_TIER, TENANT_TIER
from services.serving.core.shadow import Comparison
from services.serving.core.swap_heads import Registry

STAGE_SECONDS = Histogram(
    "trine_match_stage_seconds",
    "Time that a stage of a match took.",
    ("stage",),
    buckets=(
        0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1,
    ),
)  # fmt: skip
MATCHES = Counter(
    "trine_matches_total", "Matches answered, by the tier that ranked them.", ("tier",)
)
EXPOSURES_DROPPED = Counter(
    "trine_exposures_dropped_total", "Matches whose record was left out: too many were waiting."
)
ARM_MATCHES = Counter("trine_canary_matches_total", "Matches answered in canaries.", ("arm",))
SHADOW_MATCHES = Counter(
    "trine_shadow_matches_total",
    "Matches drawn for a challenger to rank unseen, by result; a failed canary or load is one too.",
    ("result",),
)
SHADOW_OVERLAP = Histogram(
    "trine_shadow_overlap",
    "Share of those shown whom the challenger would have shown too.",
    buckets=(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
)
SHADOW_SECONDS = Histogram(
    "trine_shadow_seconds",
    "Time that a challenger took for a match, unseen.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
)
SWAPS = Counter("trine_head_swaps_total", "Changes of the head in use, by result.", ("result",))
SWAP_SECONDS = Histogram(
    "trine_head_swap_seconds",
    "Time from hearing of a head to its first match.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
HEADS_LOADED = Gauge("trine_heads_loaded", "Domains that a trained head serves.", ("tier",))
HEADS_FAILED = Gauge(
    "trine_heads_failed", "Heads that should be in use and were refused.", ("tier",)
)
CANDIDATES = Gauge("trine_candidates", "Candidates in memory.", ("tenant", "domain"))

_STAGES = {
    name: STAGE_SECONDS.labels(name)
    for name in ("sql_filter", "light_ml", "embedding", "cross_encoder", "llm_judge", "total")
}


def observe_stages(seconds: Mapping[str, float]) -> None:
    """Counts the time of each stage and their sum."""
    for name, spent in seconds.items():
        _STAGES[name].observe(spent)
    _STAGES["total"].observe(sum(seconds.values()))


def observe_shadow(result: str, comparison: Comparison | None) -> None:
    """Counts a match that a challenger ranked unseen, or did not."""
    SHADOW_MATCHES.labels(result).inc()
    if comparison is not None:
        SHADOW_OVERLAP.observe(comparison.overlap)
        SHADOW_SECONDS.observe(comparison.challenger_seconds)


def observe_swap(result: str, seconds: float) -> None:
    """Counts a change of the head in use."""
    SWAPS.labels(result).inc()
    if result == "loaded":
        SWAP_SECONDS.observe(seconds)
    crashpoint("serving.head.swapped")


async def show_registry(registry: Registry) -> None:
    """Sets the gauges."""
    for tier in (TENANT_TIER, DOMAIN_TIER):
        HEADS_LOADED.labels(tier).set(sum(d.head.tier == tier for d in registry.domains.values()))
        HEADS_FAILED.labels(tier).set(sum(key[-1] == tier for key in registry.failed))
    for (tenant, domain), served in registry.domains.items():
        CANDIDATES.labels(tenant, domain).set(served.partition.view.alive_count)
