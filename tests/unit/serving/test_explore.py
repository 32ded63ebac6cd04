"""Exploration: as often as it should be, uniform, with propensities that are what they say."""

import hashlib

import numpy as np
import pytest

from services.serving.core.explore import explore
from services.serving.core.find_matches import MatchResult, find_matches
from tests.support.matching import AGE_HEAD, domain, request

MATCHES = 4_000


@pytest.fixture(scope="module")
def result() -> MatchResult:
    return find_matches(domain(20, AGE_HEAD), request(limit=5))


def test_the_same_people_are_shown_and_scores_go_with_them(result: MatchResult) -> None:
    columns = (result.numbers.tolist(), next(iter(result.stage_scores.values())))
    scores = dict(zip(*columns, strict=True))
    for number in range(20):
        shown, exploration = explore(result, f"m{number}", 1.0)
        assert exploration.explored
        assert sorted(shown.numbers) == sorted(result.numbers)
        assert (result.numbers[exploration.ranker_ranks - 1] == shown.numbers).all()
        column = next(iter(shown.stage_scores.values()))
        assert column.tolist() == [scores[number] for number in shown.numbers.tolist()]
        assert (shown.end, shown.first_rank) == (result.end, result.first_rank)


def test_a_match_is_explored_as_often_as_the_share_says(result: MatchResult) -> None:
    explored = sum(explore(result, f"m{i}", 0.2)[1].explored for i in range(MATCHES))
    assert explored / MATCHES == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / MATCHES))


def test_everyone_stands_everywhere_as_often_as_their_propensity_says(result: MatchResult) -> None:
    share = 0.5
    shown = np.zeros((5, 5))
    for number in range(MATCHES):
        _, exploration = explore(result, f"m{number}", share)
        ranks = exploration.ranker_ranks
        shown[ranks - 1, np.arange(5)] += 1
        expected = np.where(ranks == np.arange(1, 6), 1 - share + share / 5, share / 5)
        assert exploration.propensities == pytest.approx(expected)
    expected = np.full((5, 5), share / 5) + np.eye(5) * (1 - share)
    assert shown / MATCHES == pytest.approx(expected, abs=4 * np.sqrt(0.25 / MATCHES))


def test_the_record_can_be_checked(result: MatchResult) -> None:
    """The order follows from the match's id and nothing else."""

    def digest(rank: int) -> str:
        return hashlib.sha256(f"0192f3a4:{rank}".encode()).hexdigest()

    ranks = explore(result, "0192f3a4", 1.0)[1].ranker_ranks
    assert ranks.tolist() == sorted(range(1, 6), key=digest) == [2, 5, 1, 4, 3]
    chance = int(digest(0), 16) / 2**256
    assert explore(result, "0192f3a4", chance + 1e-9)[1].explored
    assert not explore(result, "0192f3a4", chance - 1e-9)[1].explored


def test_a_page_of_one_is_certain(result: MatchResult) -> None:
    _, exploration = explore(result.pick(np.array([0])), "m", 0.25)
    assert exploration.propensities.tolist() == [1.0]
    _, exploration = explore(result.pick(np.array([], np.intp)), "m", 0.25)
    assert exploration.propensities.tolist() == []
