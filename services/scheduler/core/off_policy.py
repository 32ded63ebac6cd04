"""What another policy would have earned, from the log of the one that was in force.

A page is one logged decision, its slots are the places that were filled; a bandit's page has one
slot. The log says of each slot with what probability it was filled as it was (the propensity) and
what it earned (the reward). A policy is told by how likely it would have filled the slot alike; the
ratio of both is the slot's weight. The value of a policy is the mean over pages of their discounted
rewards. It is known as far as a slot's reward depends on who stands there and on the rank, not on
the others (the item-position model: Li et al., "Offline Evaluation of Ranking Policies with Click
Models", KDD 2018), and where propensities are above 0 for whatever the policy would do.

ips: inverse propensity scoring (Horvitz and Thompson 1952). snips: the same with the weights of
each rank divided by their mean (Swaminathan and Joachims, "The Self-Normalized Estimator for
Counterfactual Learning", NIPS 2015). dr: doubly robust, a model's expectation plus the weighted
residuals of the log (Dudík, Langford and Li, ICML 2011).

Shapes: P pages, n slots, standing page by page.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

CONFIDENT = 1.959963984540054
"""Standard normal quantile of a 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What was shown and what it earned."""

    pages_count: int
    pages: Integers
    """[n] Index of the page, from 0."""
    ranks: Integers
    """[n] From 0."""
    discounts: Floats
    """[n] What a reward counts at the slot's rank."""
    rewards: Floats
    """[n]"""
    expected: Floats
    """[n] Reward that a model expects of whom the log shows there; it may be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What another policy would do with the same pages."""

    weights: Floats
    """[n] Its probability of filling the slot as the log did, divided by the log's own."""
    expected: Floats
    """[n] Reward that the model expects of the slot as the policy would fill it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and how each page moves it."""

    value: float
    influences: Floats
    """[P] The estimate's deviation is to first order their mean."""

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two policies on the same log, page by page."""
        return Estimate(self.value - other.value, self.influences - other.influences)

    def error(self, clusters: Integers | None = None) -> float:
        """Standard error; pages of one cluster [P] hang together.

        The central limit theorem for means; for ratios the delta method (Owen, "Monte Carlo theory,
        methods and examples", 2013, section 9.2); summed within clusters (Liang and Zeger 1986).
        """
        influences = self.influences
        if clusters is not None:
            _, index = np.unique(clusters, return_inverse=True)
            influences = np.bincount(index, influences).astype(np.float64)
        count = len(influences)
        if count < 2:  # one cluster tells nothing of how clusters differ
            return float("inf")
        spread = (influences**2).sum() * count / (count - 1)
        return float(np.sqrt(spread) / len(self.influences))

    def interval(self, clusters: Integers | None = None) -> tuple[float, float]:
        """Bounds of the 95 % interval: value ± 1.96 standard errors."""
        reach = CONFIDENT * self.error(clusters)
        return self.value - reach, self.value + reach


def ips(log: Log, policy: Policy) -> Estimate:
    """Σ d w r / P."""
    return _mean(log, log.discounts * policy.weights * log.rewards)


def dr(log: Log, policy: Policy) -> Estimate:
    """Σ d (q' + w (r - q)) / P, with q expected of the log's slot and q' of the policy's."""
    residuals = policy.weights * (log.rewards - log.expected)
    return _mean(log, log.discounts * (policy.expected + residuals))


def snips(log: Log, policy: Policy) -> Estimate:
    """Σ d n (Σ w r / Σ w) / P over ranks, with n pages that have the rank.

    A rank that the policy never fills as the log did counts 0.
    """
    weights = policy.weights
    slots = np.bincount(log.ranks).astype(np.float64)
    total = np.bincount(log.ranks, weights)
    sums = np.bincount(log.ranks, weights * log.rewards)
    means = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)[log.ranks]
    scales = np.divide(slots, total, out=np.zeros_like(slots), where=total > 0)[log.ranks]
    there = _mean(log, log.discounts * means)  # pages differ in which ranks they have
    spread = log.discounts * scales * weights * (log.rewards - means)
    moved = np.bincount(log.pages, spread, minlength=log.pages_count)
    return Estimate(there.value, there.influences + moved)


def _mean(log: Log, terms: Floats) -> Estimate:
    totals = np.bincount(log.pages, terms, minlength=log.pages_count).astype(np.float64)
    value = float(totals.mean()) if len(totals) else 0.0
    return Estimate(value, totals - value)
