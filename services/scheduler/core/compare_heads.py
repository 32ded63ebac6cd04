"""In what two heads differ: how they were made and how the gate measured them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.scheduler.core.lineage import Origin
from services.scheduler.core.verdict import GENERAL, Verdict


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two heads differ; empty where a head has no such thing."""

    name: str
    head: str
    other: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that the gate gave both heads."""

    name: str
    head: float
    other: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything in which two heads differ."""

    differences: tuple[Difference, ...]
    figures: tuple[Figure, ...]
    figures_comparable: bool


def compare_heads(head: Origin, other: Origin) -> Comparison:
    """Names what differs; what is not named is equal."""
    here, there = dict(_facts(head)), dict(_facts(other))
    names = [*here, *(name for name in there if name not in here)]
    pairs = [Difference(name, here.get(name, ""), there.get(name, "")) for name in names]
    ours, theirs = _figures(head.head.verdict), _figures(other.head.verdict)
    return Comparison(
        differences=tuple(pair for pair in pairs if pair.head != pair.other),
        figures=tuple(Figure(name, ours[name], theirs[name]) for name in ours if name in theirs),
        figures_comparable=head.manifest.snapshot_digest == other.manifest.snapshot_digest,
    )


def _facts(origin: Origin) -> Iterator[tuple[str, str]]:
    head, job, manifest = origin.head, origin.run.job, origin.manifest
    yield "domain", head.domain
    yield "tier", head.tier
    yield "parent", head.parent or GENERAL
    yield "trigger", job.trigger
    yield "snapshot_digest", manifest.snapshot_digest
    yield "triplets_used", str(job.triplets_count)
    yield "outcomes_used", str(manifest.outcomes_count)
    yield "encoder", manifest.encoder
    yield "dim", str(manifest.dim)
    yield "code_version", manifest.code_version
    yield "rule_version", manifest.rule_version
    for name, kind in manifest.columns.items():
        yield f"columns.{name}", kind
    yield from _flat("recipe", manifest.recipe)


def _flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", inner)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def _figures(verdict: Verdict) -> dict[str, float]:
    quality = verdict.challenger_quality
    figures = {"ndcg_at_10": quality.ndcg_at_10.mid, "auc": quality.auc.mid}
    if quality.calibration_error is not None:
        figures["calibration_error"] = quality.calibration_error
    return figures | {
        "ndcg_at_10_gain": verdict.ndcg_at_10_gain.mid,
        "auc_gain": verdict.auc_gain.mid,
    }
