"""Vectors that a head brings itself: queries from histories, matches and explanations by them."""

import dataclasses

import numpy as np
import pytest

from services.serving.core.candidates import Floats, Mask, Rows, View
from services.serving.core.errors import HeadRefusedError
from services.serving.core.explain_matches import HISTORY, explain_matches
from services.serving.core.factors import Factors
from services.serving.core.find_matches import find_matches
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.seen import POSITIVE
from services.serving.core.swap_heads import _prepare
from tests.support.candidates import pairs, partition, rows, served
from tests.support.matching import AGE_HEAD, AgeScorers, request

NONE = np.zeros((0, 2), np.float32)


class WholeIndex:
    """Asks every row."""

    def __init__(self, view: View) -> None:
        self.rows, self.generation, self._vectors = view.size, view.generation, view.vectors

    def search(self, query: Floats, mask: Mask, top_k: int, probes_count: int) -> Rows:
        inside = np.flatnonzero(mask)
        order = np.argsort(-(self._vectors[inside] @ query), kind="stable")
        return inside[order[:top_k]]

    def calibrate(self, queries: Floats) -> tuple[int, float]:
        assert queries.shape[1] == self._vectors.shape[1]
        return 1, 1.0


class WholeIndexes:
    """Builds such."""

    def build(self, view: View) -> WholeIndex:
        return WholeIndex(view)


def factors(**changes: object) -> Factors:
    """People 1 to 4: 1 and 2 go together, 3 and 4 do; a newcomer is offered 4."""
    tables = np.array([[1, 0], [1, 0.5], [0, 1], [0, 0.5]], np.float32)
    content: dict[str, object] = {
        "people": np.array([1, 2, 3, 4], np.int32),
        "history": tables,
        "candidates": tables[[1, 0, 3, 2]],
        "newcomer": np.array([-1, 2], np.float32),
        "content": NONE,
        "recency_floor": 0.5,
        "recency_places": 2.0,
    }
    return Factors(**(content | changes))  # type: ignore[arg-type]


class Scorers(AgeScorers):
    """Takes no age for 0."""

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        return super().describe(np.nan_to_num(columns_nc), counts_n4, table_n2)


def domain(own: Factors | None = None) -> ServedDomain:
    """Six people of one age under a head with vectors of its own."""
    made = partition(rows(list(range(6)), age=[1.0] * 6))
    head = dataclasses.replace(AGE_HEAD, scorers=Scorers(), factors=own or factors())
    return served(made, head)


def says_yes(made: ServedDomain, *candidates: int) -> None:
    """The first person says yes to some, one after the other."""
    for second, candidate in enumerate(candidates):
        made.partition.seen.apply(pairs({(0, candidate): POSITIVE}, second))


def test_the_latest_counts_most_and_the_oldest_no_less_than_the_floor() -> None:
    query = factors().query(np.array([3, *[99] * 50, 1], np.int32))
    assert query == pytest.approx([1.0, 0.5], abs=1e-6)


def test_a_seeker_without_a_known_history_asks_as_a_newcomer() -> None:
    for history in ([], [0, 99]):
        assert factors().query(np.array(history, np.int32)).tolist() == [-1, 2]


def test_a_fresh_outcome_changes_the_next_match() -> None:
    made = domain()
    wish = dataclasses.replace(request("u0", limit=1), exclude_seen=True)
    assert find_matches(made, wish).numbers.tolist() == [4]  # as a newcomer
    says_yes(made, 1)
    assert find_matches(made, wish).numbers.tolist() == [2]
    says_yes(made, 1, 3)
    assert find_matches(made, wish).numbers.tolist() == [4]


def test_whoever_was_erased_says_nothing_any_more() -> None:
    made = domain()
    says_yes(made, 1, 3)
    made.partition.apply_removals(np.array([3], np.int32))
    wish = dataclasses.replace(request("u0", limit=1), exclude_seen=True)
    assert find_matches(made, wish).numbers.tolist() == [2]


@pytest.mark.parametrize("stages", [{}, {"cross_encoder": False}, {"light_ml": False}])
def test_every_stage_goes_by_the_history(stages: dict[str, bool]) -> None:
    made = domain()
    says_yes(made, 1)
    assert find_matches(made, request("u0", limit=2, **stages)).numbers.tolist() == [1, 2]


def test_what_the_history_adds_is_told_and_all_adds_up() -> None:
    made = domain()
    says_yes(made, 1)
    for stages in ({}, {"cross_encoder": False}, {"cross_encoder": False, "light_ml": False}):
        result = find_matches(made, request("u0", **stages))
        for number, told in zip(result.numbers, explain_matches(made, result), strict=True):
            total = told.base + sum(c.value for c in told.contributions)
            assert 1 / (1 + np.exp(-total)) == pytest.approx(told.score, abs=1e-6)
            added = {c.source: c.value for c in told.contributions}.get(HISTORY, 0.0)
            expected = {1: 1.0, 2: 1.0}.get(int(number), 0.0)
            assert added == pytest.approx(expected, abs=1e-6)


def test_who_came_later_is_scored_by_their_encoder_vector() -> None:
    made = domain(factors(content=np.ones((8, 2), np.float32)))
    says_yes(made, 1)
    result = find_matches(made, request("u0"))
    view = result.view
    scores = dict(zip(result.numbers.tolist(), result.stage_scores["embedding"], strict=True))
    expected = 1 / (1 + np.exp(-view.vectors[view.row_of[5]].sum()))
    assert scores[5] == pytest.approx(expected, abs=1e-6)


def test_a_large_domain_is_pre_selected_by_the_history_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.serving.core.find_matches.EXACT_ROWS_MAX", 2)
    monkeypatch.setattr("services.serving.core.find_matches.PRESELECTED", 2)
    made = domain()
    builder = WholeIndexes()
    made = dataclasses.replace(made, index=builder.build(made.partition.view))
    made = _prepare(made, made.head, builder)
    assert made.factor_index is not None
    says_yes(made, 3)
    wish = dataclasses.replace(request("u0"), exclude_seen=True)
    assert 4 in find_matches(made, wish).numbers
    assert _prepare(made, AGE_HEAD, builder).factor_index is None


@pytest.mark.parametrize(
    "changes",
    [
        {"people": np.array([1, 2, 2, 4], np.int32)},
        {"people": np.array([1, 2, 3], np.int32)},
        {"newcomer": np.zeros(3, np.float32)},
        {"content": np.zeros((8, 3), np.float32)},
    ],
)
def test_tables_that_do_not_fit_together_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(HeadRefusedError):
        factors(**changes)
