"""The gate: what it measures and when it lets a head through."""

import dataclasses

import numpy as np
import pytest

from services.scheduler.core import verdict as gate
from services.scheduler.core.counterfactual import weigh_pages
from services.scheduler.core.verdict import Counterfactual, Evaluation, judge
from tests.support.explored import explored_pages


def evaluation(
    seekers: int, per_seeker: int, challenger_skill: float, incumbent_skill: float, seed: int = 0
) -> Evaluation:
    """Held-out outcomes whose scores know the truth as well as the skills say."""
    random = np.random.default_rng(seed)
    chance = random.uniform(0.1, 0.9, seekers * per_seeker)
    positive = random.random(len(chance)) < chance
    noise = random.uniform(0.05, 0.95, (2, len(chance)))
    scores = [
        skill * chance + (1 - skill) * noise[i]
        for i, skill in enumerate((challenger_skill, incumbent_skill))
    ]
    return Evaluation(
        seekers=np.repeat(np.arange(seekers, dtype=np.int32), per_seeker),
        levels=np.where(positive, 2, 0).astype(np.int32),
        challenger_scores=scores[0],
        incumbent_scores=scores[1],
        incumbent_calibrated=False,
    )


def test_a_better_head_is_promoted() -> None:
    verdict = judge(evaluation(200, 12, 0.9, 0.2), "general", seed=0)
    assert verdict.promoted
    assert verdict.ndcg_at_10_gain.low > 0
    assert verdict.auc_gain.mid > 0.1


def test_a_worse_head_is_held_and_told_why() -> None:
    verdict = judge(evaluation(200, 12, 0.2, 0.9), "u_acme.dating.2026-05-17.001", seed=0)
    assert not verdict.promoted
    assert any("NDCG@10" in reason for reason in verdict.reasons)
    assert any("AUC" in reason for reason in verdict.reasons)
    assert verdict.incumbent == "u_acme.dating.2026-05-17.001"


def test_every_rule_is_kept_with_what_was_measured() -> None:
    for skills in ((0.9, 0.2), (0.2, 0.9)):
        verdict = judge(evaluation(200, 12, *skills), "general", seed=0)
        rules = {rule.name: rule for rule in verdict.rules}
        assert list(rules) == ["seekers", "ndcg_at_10", "auc", "calibration"]
        assert rules["seekers"].measured == verdict.seekers_count
        assert rules["auc"].measured == verdict.auc_gain.mid
        assert verdict.promoted == all(rule.passed for rule in verdict.rules)
        said = {r.sentence for r in verdict.rules if r.passed == verdict.promoted}
        assert set(verdict.reasons) == said


def explored(**skills: float) -> Counterfactual:
    """What exploration told of two heads of which each sees so much of whom seekers like."""
    found = weigh_pages(explored_pages(0, pages=4_000, share=1.0, **skills)[0])
    assert found is not None
    return found


def test_a_head_that_exploration_finds_worse_is_held_whatever_else_it_gains() -> None:
    worse = explored(challenger=-2.0, incumbent=2.0)
    assert worse.difference.dr.high < 0
    verdict = judge(evaluation(200, 12, 0.9, 0.2), "general", 0, worse)
    assert not verdict.promoted
    (reason,) = verdict.reasons
    assert f"{worse.difference.dr.mid:+.4f} discounted accepted outcomes" in reason
    assert verdict.rules[-1].name == "counterfactual"
    assert (verdict.rules[-1].measured, verdict.rules[-1].limit) == (worse.difference.dr.high, 0)


@pytest.mark.parametrize("skill", [2.0, 0.25])
def test_a_head_that_exploration_finds_better_or_cannot_tell_from_the_other_passes(
    skill: float,
) -> None:
    found = explored(challenger=skill, incumbent=0.3)
    verdict = judge(evaluation(200, 12, 0.9, 0.2), "general", 0, found)
    assert verdict.promoted
    assert verdict.counterfactual == found
    assert len(verdict.reasons) == 5


def test_exploration_alone_promotes_nobody() -> None:
    found = explored(challenger=2.0, incumbent=-2.0)
    assert found.difference.dr.low > 0
    verdict = judge(evaluation(200, 12, 0.2, 0.9), "general", 0, found)
    assert not verdict.promoted
    assert verdict.rules[-1].passed


def test_an_equal_head_is_held_because_ties_keep_the_incumbent() -> None:
    same = evaluation(200, 12, 0.5, 0.5)
    same = dataclasses.replace(same, incumbent_scores=same.challenger_scores)
    verdict = judge(same, "general", seed=0)
    assert not verdict.promoted
    assert verdict.ndcg_at_10_gain.mid == 0


def test_too_few_seekers_say_too_little() -> None:
    verdict = judge(evaluation(gate.SEEKERS_MIN - 1, 12, 0.95, 0.0), "general", seed=0)
    assert not verdict.promoted
    assert any("seekers were ranked" in reason for reason in verdict.reasons)


def test_an_uncalibrated_head_is_held() -> None:
    good = evaluation(200, 12, 0.9, 0.2)
    shifted = dataclasses.replace(good, challenger_scores=good.challenger_scores * 0.3)
    verdict = judge(shifted, "general", seed=0)
    assert not verdict.promoted
    assert verdict.reasons == (verdict.reasons[0],)
    assert "calibration error" in verdict.reasons[0]


def test_no_outcomes_at_all_are_held() -> None:
    nothing = Evaluation(
        seekers=np.empty(0, np.int32),
        levels=np.empty(0, np.int32),
        challenger_scores=np.empty(0),
        incumbent_scores=np.empty(0),
        incumbent_calibrated=False,
    )
    verdict = judge(nothing, "general", seed=0)
    assert not verdict.promoted
    assert verdict.seekers_count == 0


def test_the_same_evaluation_and_seed_give_the_same_verdict() -> None:
    given = evaluation(60, 10, 0.6, 0.4)
    assert judge(given, "general", seed=7) == judge(given, "general", seed=7)


def test_the_gate_lets_few_regressions_through() -> None:
    promoted = sum(
        judge(evaluation(80, 10, 0.3, 0.35, i), "general", seed=i).promoted for i in range(10)
    )
    assert promoted <= 2


def test_auc_is_that_of_counting_pairs() -> None:
    random = np.random.default_rng(3)
    levels = random.integers(0, 4, 60).astype(np.int32)
    scores = random.integers(0, 8, 60).astype(np.float64)  # many ties
    better = ties = pairs = 0
    for i in np.flatnonzero(levels >= 2):
        for j in np.flatnonzero(levels < 2):
            pairs += 1
            better += int(scores[i] > scores[j])
            ties += int(scores[i] == scores[j])
    assert gate._auc(levels, scores, np.ones(60)) == pytest.approx((better + ties / 2) / pairs)


def test_ndcg_is_that_of_its_formula() -> None:
    levels = np.array([0, 2, 3, 0, 2], np.int32)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    found = 1 / np.log2(3) + 3 / np.log2(4) + 1 / np.log2(6)
    ideal = 3 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    ndcg = gate._ndcg(np.zeros(5, np.intp), levels, scores)
    assert ndcg[0] == pytest.approx(found / ideal)


def test_only_the_first_ten_ranks_count() -> None:
    levels = np.array([0] * 10 + [2], np.int32)
    scores = -np.arange(11.0)
    assert gate._ndcg(np.zeros(11, np.intp), levels, scores)[0] == 0


def test_draws_made_in_parts_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = evaluation(60, 5, 0.8, 0.4)
    at_once = judge(asked, "general", seed=3)
    monkeypatch.setattr(gate, "COUNTS_MAX", 60 * 7)  # seven draws at a time
    assert max(counts.size for counts in gate._draws(60, 3)) == 60 * 7
    in_parts = judge(asked, "general", seed=3)
    for found, expected in (
        (in_parts.ndcg_at_10_gain, at_once.ndcg_at_10_gain),
        (in_parts.auc_gain, at_once.auc_gain),
    ):
        assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(expected), abs=1e-12)
