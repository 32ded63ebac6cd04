"""A match: stages in order, exact where it should be, the seeker never among the answers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core import find_matches as planner
from services.serving.core.candidates import Floats, Mask, Rows
from services.serving.core.errors import UserNotFoundError
from services.serving.core.filters import read_filters
from services.serving.core.find_matches import MatchRequest, find_matches
from services.serving.core.loaded_head import ServedDomain
from tests.support.candidates import pairs, partition, rows, served
from tests.support.matching import AGE_HEAD, AgeScorers, domain, request


def test_the_general_tier_ranks_by_cosine() -> None:
    made = domain(30)
    result = find_matches(made, request("u3", limit=29))
    view = made.partition.view
    cosines = view.vectors[:30] @ view.vectors[3]
    expected = [int(i) for i in np.argsort(-cosines, kind="stable") if i != 3]
    assert result.numbers.tolist() == expected
    assert list(result.stage_scores) == ["embedding"]
    assert result.stage_scores["embedding"][0] == pytest.approx((cosines[expected[0]] + 1) / 2)


def test_a_head_runs_all_stages_and_the_last_decides() -> None:
    result = find_matches(domain(30, AGE_HEAD), request("u0", limit=3))
    assert result.numbers.tolist() == [1, 2, 3]
    assert list(result.stage_scores) == ["light_ml", "embedding", "cross_encoder"]
    assert result.counts == {
        "sql_filter": 29,
        "light_ml": 29,
        "embedding": 29,
        "cross_encoder": 29,
    }


def test_each_stage_cuts_for_the_next() -> None:
    wish = request("u0", limit=3, light_ml={"top_k": 10}, embedding={"top_k": 5})
    result = find_matches(domain(30, AGE_HEAD), wish)
    assert result.counts == {"sql_filter": 29, "light_ml": 10, "embedding": 5, "cross_encoder": 5}
    assert all(number >= 20 for number in result.numbers)


def test_a_stage_that_is_off_neither_scores_nor_cuts() -> None:
    wish = request("u0", limit=3, cross_encoder=False, embedding=False)
    result = find_matches(domain(30, AGE_HEAD), wish)
    assert list(result.stage_scores) == ["light_ml"]
    assert result.numbers.tolist() == [29, 28, 27]


def test_min_score_is_inclusive() -> None:
    wish = request(
        "u0", limit=9, light_ml=False, embedding=False, cross_encoder={"min_score": 0.25}
    )
    result = find_matches(domain(30, AGE_HEAD), wish)
    assert result.numbers.tolist() == [1, 2, 3]


def test_the_seeker_is_never_among_the_answers() -> None:
    for number in range(5):
        result = find_matches(domain(5), request(f"u{number}", limit=100))
        assert number not in result.numbers
        assert len(result.numbers) == 4


def test_filters_are_met() -> None:
    made = domain(30)
    wish = dataclasses.replace(
        request("u0", limit=100),
        conditions=read_filters(made.partition, {"age": {"gte": 25}}),
    )
    result = find_matches(made, wish)
    assert sorted(result.numbers) == [25, 26, 27, 28, 29]
    assert result.counts["sql_filter"] == 5


def test_nobody_left_is_an_empty_answer() -> None:
    made = domain(3, AGE_HEAD)
    wish = dataclasses.replace(
        request(), conditions=read_filters(made.partition, {"age": {"gt": 99}})
    )
    assert find_matches(made, wish).numbers.tolist() == []


def test_an_unknown_seeker_is_an_error() -> None:
    with pytest.raises(UserNotFoundError):
        find_matches(domain(3), request("u9"))


def test_equal_scores_go_by_user_id() -> None:
    made = partition(rows([2, 10, 1], age=[7.0, 7.0, 7.0]), rows([3], age=[1.0]))
    wish = request("u3", limit=2, light_ml=False, embedding=False)
    assert find_matches(served(made, AGE_HEAD), wish).numbers.tolist() == [1, 10]  # u1, u10, u2


def test_whoever_is_excluded_is_not_in_the_answer_and_the_unknown_are_no_error() -> None:
    wish = dataclasses.replace(request("u0", limit=100), exclude=["u3", "u4", "u99", "u0"])
    result = find_matches(domain(6), wish)
    assert sorted(result.numbers) == [1, 2, 5]
    assert result.counts["sql_filter"] == 3


def test_whoever_was_seen_is_left_out_on_demand_until_the_outcome_is_taken_back() -> None:
    made = domain(6)
    seen = made.partition.seen
    seen.apply(pairs({(0, 2): 1, (0, 4): 2, (1, 3): 1}))
    assert sorted(find_matches(made, request("u0")).numbers) == [1, 2, 3, 4, 5]
    wish = dataclasses.replace(request("u0"), exclude_seen=True)
    assert sorted(find_matches(made, wish).numbers) == [1, 3, 5]
    assert sorted(find_matches(made, dataclasses.replace(wish, user_id="u2")).numbers) == [
        *(0, 1, 3, 4, 5)
    ]
    seen.apply(pairs({(0, 2): 0, (0, 77): 1}))
    assert sorted(find_matches(made, wish).numbers) == [1, 2, 3, 5]


def pages(made: ServedDomain, wish: MatchRequest) -> list[list[int]]:
    """All pages of an answer."""
    found: list[list[int]] = []
    while True:
        result = find_matches(made, wish)
        found.append(result.numbers.tolist())
        if result.end is None:
            return found
        wish = dataclasses.replace(wish, after=result.end)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.integers(1, 31))
def test_pages_are_the_whole_answer_cut(ages: list[int], limit: int) -> None:
    """Few ages, so that many scores are equal."""
    people = rows(list(range(len(ages))), age=[float(age) for age in ages])
    made = served(partition(people, rows([40], age=[1.0])), AGE_HEAD)
    wish = request("u40", limit=1_000, light_ml=False, embedding=False)
    whole = find_matches(made, wish).numbers.tolist()
    assert whole == sorted(range(len(ages)), key=lambda n: (ages[n], f"u{n}"))
    found = pages(made, dataclasses.replace(wish, limit=limit))
    assert [n for page in found for n in page] == whole
    assert all(len(page) == limit for page in found[:-1])


def test_a_page_goes_on_below_the_one_before_when_people_change() -> None:
    made = domain(8, AGE_HEAD)  # the youngest first
    wish = request("u0", limit=3, light_ml=False, embedding=False)
    first = find_matches(made, wish)
    assert first.numbers.tolist() == [1, 2, 3]
    made.partition.apply_profiles(rows([2, 20, 21], age=[4.5, 0.5, 3.5]))
    second = find_matches(made, dataclasses.replace(wish, after=first.end))
    assert second.numbers.tolist() == [21, 4, 2]


def mutual(made: ServedDomain) -> ServedDomain:
    """The same domain, where a match needs both people."""
    made.partition.layout = dataclasses.replace(made.partition.layout, reciprocal=True)
    return made


class ProudScorers(AgeScorers):
    """Chooses whoever is younger than oneself."""

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        logits: Floats = seekers[..., 0] - candidates_nk[:, 0]
        return logits

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        logits = self.score_light(seekers, candidates_nk, cosines_n)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


PROUD_HEAD = dataclasses.replace(AGE_HEAD, scorers=ProudScorers())


def test_in_a_reciprocal_domain_both_ways_count() -> None:
    made = mutual(domain(9, PROUD_HEAD))
    result = find_matches(made, request("u4", limit=8, light_ml={"top_k": 5}))
    assert set(result.numbers[:2]) == {3, 5}  # who is much younger does not want u4 back
    for stage in ("light_ml", "cross_encoder"):
        both, forward, back = (
            result.stage_scores[stage + way] for way in ("", "_forward", "_back")
        )
        assert both == pytest.approx(forward * back)
        assert forward + back == pytest.approx(np.ones(5))
    assert list(result.stage_scores)[-1] == "cross_encoder"
    assert result.counts["cross_encoder"] == 5


def test_one_way_domains_count_one_way() -> None:
    result = find_matches(domain(9, PROUD_HEAD), request("u4", limit=8))
    assert result.numbers.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert list(result.stage_scores) == ["light_ml", "embedding", "cross_encoder"]


def test_the_general_tier_of_a_reciprocal_domain_is_symmetric_as_it_is() -> None:
    made = mutual(domain(6))
    there = find_matches(made, request("u1"))
    back = find_matches(made, request("u2"))
    scores = dict(zip(there.numbers.tolist(), there.stage_scores["embedding"], strict=True))
    others = dict(zip(back.numbers.tolist(), back.stage_scores["embedding"], strict=True))
    assert scores[2] == pytest.approx(others[1])


def test_where_no_stage_that_the_head_has_is_left_the_embedding_ranks() -> None:
    result = find_matches(domain(5), request("u0", embedding=False))
    assert list(result.stage_scores) == ["embedding"]
    assert len(result.numbers) == 4


def test_counts_of_outcomes_reach_the_head() -> None:
    made = domain(4, AGE_HEAD)
    made.partition.apply_tallies(np.array([1], np.int32), np.array([[50, 0, 0, 0]], np.int32))
    result = find_matches(made, request("u0", limit=3))
    assert result.numbers.tolist() == [2, 3, 1]


def test_the_heads_table_belongs_to_numbers_and_newcomers_have_none() -> None:
    table = np.array([[0, 0], [90, 0], [0, 0]], np.float32)  # of two people, and the zeros
    head = dataclasses.replace(AGE_HEAD, table=table)
    result = find_matches(domain(4, head), request("u0", limit=3))
    assert result.numbers.tolist() == [2, 3, 1]


class OneListIndex:
    """Finds among its rows those nearest to the query, and remembers how it was asked."""

    def __init__(self, made: ServedDomain, rows_count: int) -> None:
        self.rows = rows_count
        self.generation = made.partition.view.generation
        self._vectors = made.partition.view.vectors
        self.asked: list[tuple[int, int, int]] = []

    def search(self, query: Floats, mask: Mask, top_k: int, probes_count: int) -> Rows:
        self.asked.append((int(mask.sum()), top_k, probes_count))
        inside = np.flatnonzero(mask)
        order = np.argsort(-(self._vectors[inside] @ query), kind="stable")
        return inside[order[:top_k]]

    def calibrate(self, queries: Floats) -> tuple[int, float]:
        return 1, 1.0


def test_a_loose_filter_over_a_large_domain_uses_the_index_and_the_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "EXACT_ROWS_MAX", 10)
    monkeypatch.setattr(planner, "PRESELECTED", 6)
    plain = domain(30, AGE_HEAD)
    index = OneListIndex(plain, rows_count=25)
    made = dataclasses.replace(plain, index=index, probes_count=3)
    result = find_matches(made, request("u0", limit=100))
    assert index.asked == [(24, 6, 3)]  # everyone but the seeker
    assert {25, 26, 27, 28, 29} <= set(result.numbers.tolist())
    assert len(result.numbers) == 6 + 5
    assert result.counts["sql_filter"] == 29


def test_a_selective_filter_is_scanned_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "EXACT_ROWS_MAX", 10)
    plain = domain(30)
    index = OneListIndex(plain, rows_count=25)
    made = dataclasses.replace(plain, index=index, probes_count=3)
    wish = dataclasses.replace(
        request("u0", limit=100), conditions=read_filters(made.partition, {"age": {"gte": 21}})
    )
    result = find_matches(made, wish)
    assert index.asked == []
    assert sorted(result.numbers) == list(range(21, 30))


def test_an_index_of_an_earlier_order_of_rows_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "EXACT_ROWS_MAX", 10)
    plain = domain(30)
    index = OneListIndex(plain, rows_count=25)
    index.generation -= 1
    made = dataclasses.replace(plain, index=index, probes_count=3)
    assert len(find_matches(made, request("u0", limit=100)).numbers) == 29
    assert index.asked == []
