"""Estimates against a known truth: python -m tests.bench.counterfactual --data FOLDER.

FOLDER holds the small sample of the Open Bandit Dataset (Saito et al., "Open Bandit Dataset and
Pipeline", arXiv:2008.07146): {random,bts}_{men,women}.csv.gz. From the log of one policy the gate's
estimators tell the click rate of the other, whose own log says what it was. The uniform policy is
known; of the other, Thompson sampling, the share of its impressions that each item has at a
position stands for its probability, which is right as far as click rates do not change by the hour.
"""

import argparse
import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.scheduler.core.off_policy import CONFIDENT, Estimate, Log, Policy, dr, ips, snips

CAMPAIGNS = ("men", "women")
UNIFORM, SAMPLING = "random", "bts"
SAMPLES = 200
SEED = 7
PRIOR_IMPRESSIONS = 100.0
"""With which an item's click rate in the model is drawn to the rate of all."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
ESTIMATORS: dict[str, Callable[[Log, Policy], Estimate]] = {"IPS": ips, "SNIPS": snips, "DR": dr}


@dataclass(frozen=True, slots=True)
class Impressions:
    """n impressions of one policy."""

    items: Integers
    positions: Integers
    """From 0."""
    clicks: Floats
    propensities: Floats
    half: npt.NDArray[np.bool_]
    """Which half each was in before any drawing: the model of one is fitted on the other."""

    def drawn(self, random: np.random.Generator) -> "Impressions":
        """As many of them, drawn with replacement."""
        at = random.integers(0, len(self.items), len(self.items))
        return Impressions(
            self.items[at],
            self.positions[at],
            self.clicks[at],
            self.propensities[at],
            self.half[at],
        )


def read_log(path: Path) -> Impressions:
    """One policy's log of a campaign."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return Impressions(
        items=np.array([row["item_id"] for row in rows], np.int32),
        positions=np.array([row["position"] for row in rows], np.int32) - np.int32(1),
        clicks=np.array([row["click"] for row in rows], np.float64),
        propensities=np.array([row["propensity_score"] for row in rows], np.float64),
        half=np.arange(len(rows)) % 2 == 1,
    )


def chances_of(name: str, log: Impressions, items_count: int) -> Floats:
    """Probabilities [positions, items] of a policy whose log is given."""
    if name == UNIFORM:
        return np.full((3, items_count), 1 / items_count)
    counts = np.zeros((3, items_count))
    np.add.at(counts, (log.positions, log.items), 1)
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def prepare(log: Impressions, target: Floats) -> tuple[Log, Policy]:
    """The log and the policy as the estimators read them: each impression a page of one slot."""
    items_count, rows = target.shape[1], len(log.items)
    rates = np.stack([_rates(log, ~log.half, items_count), _rates(log, log.half, items_count)])
    other = rates[1 - log.half.astype(np.intp)]
    chances = target[log.positions]
    return (
        Log(
            pages_count=rows,
            pages=np.arange(rows, dtype=np.int32),
            ranks=np.zeros(rows, np.int32),
            discounts=np.ones(rows),
            rewards=log.clicks,
            expected=other[np.arange(rows), log.items],
        ),
        Policy(
            weights=chances[np.arange(rows), log.items] / log.propensities,
            expected=(chances * other).sum(axis=1),
        ),
    )


def _rates(log: Impressions, part: npt.NDArray[np.bool_], items_count: int) -> Floats:
    clicks = np.bincount(log.items[part], log.clicks[part], minlength=items_count)
    shown = np.bincount(log.items[part], minlength=items_count)
    rates: Floats = (clicks + PRIOR_IMPRESSIONS * log.clicks[part].mean()) / (
        shown + PRIOR_IMPRESSIONS
    )
    return rates


def measure(name: str, log: Impressions, target: Floats, clicks: Floats) -> None:
    """Prints one direction: each estimator on the whole log, and on draws from it.

    `clicks` are those of the other policy's own log.
    """
    truth = float(clicks.mean())
    reach = CONFIDENT * float(clicks.std()) / len(clicks) ** 0.5
    known = f"{truth:.2%} ± {reach:.2%}"
    random = np.random.default_rng(SEED)
    draws = [prepare(log.drawn(random), target) for _ in range(SAMPLES)]
    whole = prepare(log, target)
    for kind, estimator in ESTIMATORS.items():
        found = estimator(*whole)
        low, high = found.interval()
        error = abs(found.value - truth) / truth
        covered = 0
        for draw in draws:
            bounds = estimator(*draw).interval()
            covered += bounds[0] <= truth <= bounds[1]
        print(
            f"| {name} | {known} | {kind} | {found.value:.2%} [{low:.2%}, {high:.2%}] | "
            f"{error:.0%} | {covered / SAMPLES:.0%} |"
        )


def main() -> None:
    """Prints all campaigns and directions, or why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the data set's files")
    folder: Path | None = parser.parse_args().data
    if folder is None or not folder.is_dir():
        print(f"Skipped: --data {folder or ''} is no folder with the Open Bandit Dataset's sample.")
        return
    print("| log → policy | its own click rate | estimator | estimate | relative error | covered |")
    print("|---|---|---|---|---|---|")
    for campaign in CAMPAIGNS:
        names = (UNIFORM, SAMPLING)
        logs = {name: read_log(folder / f"{name}_{campaign}.csv.gz") for name in names}
        items_count = 1 + max(int(log.items.max()) for log in logs.values())
        for source, target in ((SAMPLING, UNIFORM), (UNIFORM, SAMPLING)):
            chances = chances_of(target, logs[target], items_count)
            clicks = logs[target].clicks
            measure(f"{campaign}: {source} → {target}", logs[source], chances, clicks)


if __name__ == "__main__":
    main()
