"""Explanations add up to the score; reasons are said only when true."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.candidates import Floats
from services.serving.core.explain_matches import (
    Contribution,
    Explanation,
    Outcomes,
    explain_matches,
)
from services.serving.core.facts import Facts
from services.serving.core.find_matches import find_matches
from services.serving.core.loaded_head import LoadedHead
from services.serving.core.reasons import write_reasons
from tests.support.candidates import partition, rows, served
from tests.support.matching import domain, request

NAN = float("nan")


class LinearScorers:
    """A state is age, goal (nothing for no value) and a yes count; the cross stage bends it."""

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        return vector_d

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        effect = counts_n4[:, 3:] + counts_n4[:, 1:2] / 10 + table_n2[:, :1]
        return np.concatenate([np.nan_to_num(columns_nc), effect], axis=1).astype(np.float32)

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        products = candidates_nk[:, :2] * seekers[..., :2]
        effects = candidates_nk[:, 2] + seekers[..., 2]
        logits: Floats = candidates_nk[:, 0] + products.sum(axis=1) + effects - cosines_n + 0.5
        return logits

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        logits = self.score_light(seekers, candidates_nk, cosines_n) + candidates_nk[:, 1] ** 2
        scores: Floats = 1 / (1 + np.exp(-logits))
        return scores


LINEAR_HEAD = LoadedHead(
    head="linear",
    tier="tenant",
    scorers=LinearScorers(),
    columns=np.array([0, 1], np.intp),
    table=np.zeros((1, 2), np.float32),
)
VALUES = st.one_of(st.just(NAN), st.floats(-1, 1, width=32))
PEOPLE = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 3)), min_size=2, max_size=8)


def through(explanation: Explanation) -> float:
    """What base and contributions give."""
    total = explanation.base + sum(c.value for c in explanation.contributions)
    return float(1 / (1 + np.exp(-total))) if explanation.link == "logistic" else total


@given(PEOPLE, st.booleans())
def test_base_and_contributions_add_up_to_the_score(
    people: list[tuple[float, float, int]], cross: bool
) -> None:
    numbers = list(range(len(people)))
    made = partition(rows(numbers, age=[p[0] for p in people], goal=[p[1] for p in people]))
    counts = np.array([[5, p[2], 6, p[2]] for p in people], np.int32)
    made.apply_tallies(np.array(numbers, np.int32), counts)
    town = served(made, LINEAR_HEAD)
    result = find_matches(town, request("u0", limit=100, cross_encoder=cross, embedding=False))
    explanations = explain_matches(town, result)
    scores = next(reversed(result.stage_scores.values()))
    assert [e.score for e in explanations] == scores.tolist()
    assert [through(e) for e in explanations] == pytest.approx(scores.tolist(), abs=1e-5)
    bases = [e.base for e in explanations]
    # Nothing known of the candidate, and the seeker's effect is a contribution: 0.5 is left.
    assert bases == pytest.approx([0.5] * len(bases), abs=1e-4)


def test_each_thing_adds_what_it_adds() -> None:
    made = partition(rows([0, 1], age=[0.5, 1.0], goal=[NAN, 1.0]))
    made.apply_tallies(np.array([0, 1], np.int32), np.array([[9, 2, 0, 0], [0, 0, 4, 3]], np.int32))
    town = served(made, LINEAR_HEAD)
    result = find_matches(town, request("u0", embedding=False))
    (explanation,) = explain_matches(town, result)
    found = {(c.source, c.field): c.value for c in explanation.contributions}
    cosine = float(made.view.vectors[0] @ made.view.vectors[1])
    assert found == {
        ("field", "age"): pytest.approx(1.5),
        ("closeness", ""): pytest.approx(-cosine, abs=1e-5),
        ("candidate_outcomes", ""): pytest.approx(3),
        ("seeker_outcomes", ""): pytest.approx(0.2),
        ("cross_encoder", ""): pytest.approx(1, abs=1e-4),
    }
    sizes = [abs(c.value) for c in explanation.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert explanation.outcomes == Outcomes(9, 2, 4, 3)
    assert explanation.cosine == pytest.approx(cosine)


def test_in_a_reciprocal_domain_each_way_is_explained() -> None:
    made = partition(rows([0, 1, 2], age=[0.5, 1.0, -1.0], goal=[NAN, 1.0, 0.2]))
    made.layout = dataclasses.replace(made.layout, reciprocal=True)
    counts = np.array([[9, 2, 7, 1], [3, 1, 4, 3], [0, 0, 0, 0]], np.int32)
    made.apply_tallies(np.arange(3, dtype=np.int32), counts)
    town = served(made, LINEAR_HEAD)
    result = find_matches(town, request("u0"))
    forward = explain_matches(town, result)
    back = explain_matches(town, result, back=True)
    scores = result.stage_scores["cross_encoder"]
    for there, theirs, score in zip(forward, back, scores, strict=True):
        assert through(there) * through(theirs) == pytest.approx(score, abs=1e-6)
    place = result.numbers.tolist().index(1)
    assert forward[place].outcomes == Outcomes(9, 2, 4, 3)
    assert back[place].outcomes == Outcomes(3, 1, 7, 1)
    (outcomes,) = [c.value for c in back[place].contributions if c.source == "candidate_outcomes"]
    assert outcomes == pytest.approx(3 + 0.1)  # as LinearScorers read either side


def test_one_way_there_is_no_way_back() -> None:
    town = domain(3)
    assert explain_matches(town, find_matches(town, request("u0")), back=True) == []


def test_where_the_embedding_decides_closeness_is_all() -> None:
    town = domain(5)
    result = find_matches(town, request("u0"))
    for explanation, score in zip(
        explain_matches(town, result), result.stage_scores["embedding"], strict=True
    ):
        assert (explanation.link, explanation.base) == ("identity", 0.5)
        assert through(explanation) == pytest.approx(score)


def test_nobody_needs_no_explanation() -> None:
    town = domain(1)
    assert explain_matches(town, find_matches(town, request("u0"))) == []


WHY = Explanation(
    score=0.9,
    link="logistic",
    base=0.0,
    contributions=[
        Contribution("candidate_outcomes", "", 0.9),
        Contribution("field", "age", 0.5),
        Contribution("field", "smoker", 0.4),
        Contribution("closeness", "", 0.3),
        Contribution("field", "goal", -0.2),
        Contribution("seeker_outcomes", "", 0.1),
        Contribution("field", "taste", 0.01),
    ],
    outcomes=Outcomes(9, 2, 4, 3),
    cosine=0.314,
)


def test_reasons_are_the_three_that_raise_the_score_most() -> None:
    assert write_reasons(WHY, {"age": 31, "smoker": False}, {"age": 32, "smoker": False}) == [
        "3 of 4 outcomes about them were a yes.",
        "Their age (32) raises the score.",
        "Their smoker (false), which the seeker shares, raises the score.",
    ]


def test_what_is_not_known_of_the_candidate_is_no_reason() -> None:
    silent = dataclasses.replace(WHY, outcomes=Outcomes(9, 2, 0, 0))
    assert write_reasons(silent, {"age": 31}, {"taste": 0.5}) == [
        "Their closeness to the seeker (cosine 0.31) raises the score."
    ]


def test_who_is_likely_to_say_yes_as_well_is_said_first() -> None:
    facts: Facts = {"age": 32, "smoker": False}
    likely = dataclasses.replace(WHY, score=0.71)
    assert write_reasons(WHY, {}, facts, likely)[:2] == [
        "They are likely to say yes to the seeker as well (0.71).",
        "3 of 4 outcomes about them were a yes.",
    ]
    unlikely = dataclasses.replace(WHY, score=0.49)
    assert write_reasons(WHY, {}, facts, unlikely) == write_reasons(WHY, {}, facts)


def test_where_nothing_raises_the_score_there_is_no_reason() -> None:
    lowered = [Contribution("field", "age", -0.5), Contribution("cross_encoder", "", 2.0)]
    plain = dataclasses.replace(WHY, contributions=lowered)
    assert write_reasons(plain, {}, {"age": 30}) == []
