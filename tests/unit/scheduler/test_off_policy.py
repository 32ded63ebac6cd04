"""Estimators: the textbook's formulas to 1e-9, and intervals that hold as often as they say."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from services.scheduler.core.off_policy import CONFIDENT, Estimate, Log, Policy, dr, ips, snips

EXACT = 1e-9
Estimator = Callable[[Log, Policy], Estimate]


def bandit(seed: int, rows: int = 500, arms: int = 6) -> tuple[Log, Policy, float, np.ndarray]:
    """A contextual bandit's log, another policy, that one's value, and the other's chances.

    Rewards depend on context and arm; the model of them is wrong.
    """
    random = np.random.default_rng(seed)
    truth = random.uniform(0.05, 0.6, (3, arms))
    logging = random.dirichlet(np.full(arms, 2.0), 3)
    target = random.dirichlet(np.full(arms, 2.0), 3)
    model = np.clip(truth + random.normal(0, 0.1, truth.shape), 0, 1)
    contexts = random.integers(0, 3, rows)
    actions = np.array([random.choice(arms, p=logging[c]) for c in contexts])
    at = (contexts, actions)
    log = Log(
        pages_count=rows,
        pages=np.arange(rows, dtype=np.int32),
        ranks=np.zeros(rows, np.int32),
        discounts=np.ones(rows),
        rewards=(random.random(rows) < truth[at]).astype(np.float64),
        expected=model[at],
    )
    policy = Policy(weights=target[at] / logging[at], expected=(target * model).sum(1)[contexts])
    value = float((target * truth).sum(1).mean())
    return log, policy, value, logging[at]


def ranking(seed: int, pages: int = 300) -> tuple[Log, Policy]:
    """A log of pages of one to four slots."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 5, pages)
    ranks = np.concatenate([np.arange(size) for size in sizes]).astype(np.int32)
    log = Log(
        pages_count=pages,
        pages=np.repeat(np.arange(pages, dtype=np.int32), sizes),
        ranks=ranks,
        discounts=1 / np.log2(ranks + 2.0),
        rewards=(random.random(len(ranks)) < 0.3).astype(np.float64),
        expected=random.uniform(0, 0.5, len(ranks)),
    )
    weights = np.where(random.random(len(ranks)) < 0.5, random.uniform(1, 9, len(ranks)), 0.0)
    return log, Policy(weights=weights, expected=random.uniform(0, 0.5, len(ranks)))


def test_a_bandits_estimates_are_the_textbooks() -> None:
    log, policy, _, _ = bandit(1)
    w, r, q, expected = policy.weights, log.rewards, log.expected, policy.expected
    n = len(r)
    assert ips(log, policy).value == pytest.approx(sum(w * r) / n, abs=EXACT)
    assert snips(log, policy).value == pytest.approx(sum(w * r) / sum(w), abs=EXACT)
    terms = [expected[i] + w[i] * (r[i] - q[i]) for i in range(n)]
    assert dr(log, policy).value == pytest.approx(sum(terms) / n, abs=EXACT)


def test_a_bandits_errors_are_the_textbooks() -> None:
    """S / √n; of the ratio √(Σ w² (r - μ)²) / Σ w (Owen 2013, 9.2), times √(n / (n - 1))."""
    log, policy, _, _ = bandit(2)
    w, r = policy.weights, log.rewards
    n = len(r)
    assert ips(log, policy).error() == pytest.approx(np.std(w * r, ddof=1) / n**0.5, abs=EXACT)
    terms = policy.expected + w * (r - log.expected)
    assert dr(log, policy).error() == pytest.approx(np.std(terms, ddof=1) / n**0.5, abs=EXACT)
    mean = (w * r).sum() / w.sum()
    error = np.sqrt((w**2 * (r - mean) ** 2).sum()) / w.sum() * np.sqrt(n / (n - 1))
    found = snips(log, policy)
    assert found.error() == pytest.approx(error, abs=EXACT)
    assert found.interval() == pytest.approx((mean - CONFIDENT * error, mean + CONFIDENT * error))


def test_a_rankings_estimates_are_the_textbooks() -> None:
    log, policy = ranking(3)
    by_page: list[list[int]] = [[] for _ in range(log.pages_count)]
    for slot, page in enumerate(log.pages):
        by_page[page].append(slot)
    weighed = doubly = normalised = 0.0
    for slots in by_page:
        for i in slots:
            discount, w = log.discounts[i], policy.weights[i]
            weighed += discount * w * log.rewards[i]
            doubly += discount * (policy.expected[i] + w * (log.rewards[i] - log.expected[i]))
    for rank in range(4):
        at = [i for i in range(len(log.ranks)) if log.ranks[i] == rank]
        w, r = policy.weights[at], log.rewards[at]
        normalised += len(at) / np.log2(rank + 2.0) * (w @ r) / w.sum()
    assert ips(log, policy).value == pytest.approx(weighed / log.pages_count, abs=EXACT)
    assert dr(log, policy).value == pytest.approx(doubly / log.pages_count, abs=EXACT)
    assert snips(log, policy).value == pytest.approx(normalised / log.pages_count, abs=EXACT)


def test_the_ratios_influences_are_what_a_page_more_would_change() -> None:
    """Against the derivative by the page's own weight, taken numerically."""
    log, policy = ranking(4, pages=40)
    found = snips(log, policy)
    for page in (0, 7, 39):
        more = np.where(log.pages == page, 1 + 1e-6, 1.0)
        ranks = log.ranks
        ratio = np.bincount(ranks, more * policy.weights * log.rewards) / np.bincount(
            ranks, more * policy.weights
        )
        discounts = 1 / np.log2(np.arange(4) + 2.0)
        value = (discounts * np.bincount(ranks, more) * ratio).sum() / (log.pages_count + 1e-6)
        change = (value - found.value) / 1e-6 * log.pages_count
        assert found.influences[page] == pytest.approx(change, abs=1e-3)


def test_a_right_model_needs_no_weights_and_right_weights_no_model() -> None:
    log, policy, _, _ = bandit(5)
    sure = dataclasses.replace(log, expected=log.rewards)
    assert dr(sure, policy).value == pytest.approx(policy.expected.mean(), abs=EXACT)
    nothing = dataclasses.replace(log, expected=np.zeros_like(log.rewards))
    blind = dataclasses.replace(policy, expected=np.zeros_like(log.rewards))
    assert dr(nothing, blind).value == pytest.approx(ips(log, policy).value, abs=EXACT)


@pytest.mark.parametrize("estimator", [ips, snips, dr])
def test_the_logs_own_policy_is_worth_what_it_earned(estimator: Estimator) -> None:
    log, _, _, _ = bandit(6)
    own = Policy(weights=np.ones_like(log.rewards), expected=log.expected)
    assert estimator(log, own).value == pytest.approx(log.rewards.mean(), abs=EXACT)


@pytest.mark.parametrize("estimator", [ips, snips, dr])
def test_intervals_hold_the_truth_as_often_as_they_say(estimator: Estimator) -> None:
    covered = 0
    for seed in range(200):
        log, policy, value, _ = bandit(seed)
        low, high = estimator(log, policy).interval()
        covered += low <= value <= high
    assert 0.95 * 200 - 4 * np.sqrt(0.95 * 0.05 * 200) <= covered <= 200


def test_the_difference_of_two_policies_is_known_better_than_each() -> None:
    log, policy, _, _ = bandit(7)
    near = dataclasses.replace(policy, weights=policy.weights * 1.01)
    difference = dr(log, near) - dr(log, policy)
    assert difference.error() < dr(log, policy).error() / 10


def test_clusters_widen_what_hangs_together_and_leave_what_does_not() -> None:
    log, policy, _, _ = bandit(8)
    found = ips(log, policy)
    own = np.arange(log.pages_count, dtype=np.int32)
    assert found.error(own) == pytest.approx(found.error(), abs=EXACT)
    twice = Estimate(found.value, np.repeat(found.influences, 2))
    pairs = np.repeat(own, 2)
    assert twice.error(pairs) == pytest.approx(found.error(), abs=EXACT)
    assert twice.error() < found.error() / 1.4
    assert found.error(np.zeros_like(own)) == float("inf")


def test_a_rank_that_the_policy_never_fills_alike_counts_nothing() -> None:
    log, policy = ranking(9)
    never = dataclasses.replace(policy, weights=np.zeros_like(policy.weights))
    assert snips(log, never).value == 0
    assert snips(log, never).error() == 0
