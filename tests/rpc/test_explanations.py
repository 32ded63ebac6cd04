"""Explanations as callers meet them, by a head that was really learned."""

import dataclasses
import math
from collections.abc import AsyncIterator

import numpy as np
import pytest

from services.serving.core.explain_matches import explain_matches
from services.serving.core.find_matches import MatchRequest, find_matches
from services.serving.core.stages import read_stages
from tests.support.heads import golden
from tests.support.server import refused
from tests.support.serving import Serving, running_serving


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with running_serving() as made:
        yield made


async def test_a_learned_heads_scores_are_explained_to_the_last_part(serving: Serving) -> None:
    await serving.load()
    response = await serving.match(limit=29, explain=True)
    bases: list[float] = []
    for match in response.matches:
        found = match.explanation
        total = found.base + sum(c.value for c in found.contributions)
        assert 1 / (1 + math.exp(-total)) == pytest.approx(match.score, abs=1e-6)
        assert (found.link, found.score) == ("logistic", match.score)
        bases.append(found.base)
        given, yes, _, _ = golden()["counts"][0]
        assert (found.outcomes.given, found.outcomes.given_positive) == (given, yes)
        sources = {c.source for c in found.contributions}
        assert {"field", "closeness", "seeker_outcomes"} <= sources
    # The linear stage adds up field by field, so what is left is the same for everyone.
    assert np.ptp(bases) < 1e-4
    assert any(match.reasons for match in response.matches)


async def test_the_base_is_what_a_stranger_would_score(serving: Serving) -> None:
    """Without the cross stage: a candidate without values, vector and outcomes has the base."""
    await serving.load()
    domain = serving.registry.domains["acme", "dating"]
    stages = read_stages({"cross_encoder": False, "embedding": False})
    wish = MatchRequest(user_id="u0", conditions=[], stages=stages, limit=1)
    (explanation,) = explain_matches(domain, find_matches(domain, wish))
    scorers = domain.head.scorers
    assert scorers is not None
    columns = np.full((2, len(domain.head.columns)), np.nan, np.float32)
    columns[0] = golden()["columns"][0]
    nothing = np.zeros((2, 4), np.float32), np.zeros((2, 2), np.float32)
    seeker, stranger = scorers.describe(columns, *nothing)
    (logit,) = scorers.score_light(seeker, stranger[np.newaxis], np.zeros(1, np.float32))
    assert explanation.base == pytest.approx(float(logit), abs=1e-4)


async def test_a_reciprocal_domains_scores_are_the_product_of_both_ways(serving: Serving) -> None:
    """Each way is what the head says one-way to whoever chooses."""
    await serving.load()
    one_way = {m.user_id: m.score for m in (await serving.match(limit=29)).matches}
    backward = {
        user_id: {m.user_id: m.score for m in (await serving.match(user_id, limit=29)).matches}
        for user_id in one_way
    }
    partition = serving.registry.domains["acme", "dating"].partition
    partition.layout = dataclasses.replace(partition.layout, reciprocal=True)
    response = await serving.match(limit=29, explain=True)
    assert len(response.matches) == 29
    for match in response.matches:
        forward, back = one_way[match.user_id], backward[match.user_id]["u0"]
        scores = match.stage_scores
        assert scores["cross_encoder_forward"] == pytest.approx(forward, abs=1e-5)
        assert scores["cross_encoder_back"] == pytest.approx(back, abs=1e-5)
        assert match.score == scores["cross_encoder"] == pytest.approx(forward * back, abs=1e-5)
        assert match.explanation.score == scores["cross_encoder_forward"]
        found = match.explanation_back
        total = found.base + sum(c.value for c in found.contributions)
        assert 1 / (1 + math.exp(-total)) == pytest.approx(back, abs=1e-5)


async def test_the_same_question_gets_the_same_explanation(serving: Serving) -> None:
    await serving.load()
    first = await serving.match(explain=True)
    assert (await serving.match(explain=True)).matches == first.matches
    plain = await serving.match()
    assert not any(match.HasField("explanation") or match.reasons for match in plain.matches)
    assert [match.score for match in plain.matches] == [match.score for match in first.matches]


async def test_the_general_tier_explains_by_closeness(serving: Serving) -> None:
    response = await serving.match(limit=1, explain=True)
    (match,) = response.matches
    assert match.explanation.link == "identity"
    (contribution,) = match.explanation.contributions
    assert match.explanation.base + contribution.value == pytest.approx(match.score)
    assert len(match.reasons) == 1


async def test_a_judges_order_keeps_the_heads_explanations(serving: Serving) -> None:
    await serving.load()
    serving.judge.scores = [0.1, 0.9]
    plain = await serving.match(limit=2)
    response = await serving.match(explain=True, stages={"llm_judge": {"top_k": 2}})
    explained = [match.explanation.score for match in response.matches]
    assert explained == [match.score for match in reversed(plain.matches)]


async def test_a_hundred_can_be_explained(serving: Serving) -> None:
    refusal = await refused(serving.match(explain=True, limit=101))
    assert (refusal.metadata["field"], refusal.metadata["rule"]) == ("limit", "must be 1 to 100")
