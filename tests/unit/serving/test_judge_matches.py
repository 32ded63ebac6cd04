"""The judge's stage: its order if it answers well, else the order so far, and why."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.serving.core.errors import JudgeFailedError
from services.serving.core.facts import Facts, read_facts
from services.serving.core.find_matches import MatchResult, find_matches
from services.serving.core.judge_matches import judge_matches
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.stages import StageOptions
from tests.support.candidates import partition, rows, served
from tests.support.matching import AGE_HEAD, request

NAN = float("nan")


class Judge:
    """Answers what it is told to, and remembers what it was asked."""

    model = "wise"

    def __init__(self, answer: Sequence[object] | Exception) -> None:
        self._answer = answer
        self.asked: list[Facts] = []

    async def score(self, seeker: Facts, candidates: Sequence[Facts]) -> Sequence[object]:
        self.asked = [seeker, *candidates]
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def town() -> ServedDomain:
    """Four people; the head ranks u1, u2, u3 for u0."""
    return served(partition(rows([0, 1, 2, 3], age=[40.0, 1.0, 2.0, 3.0])), AGE_HEAD)


async def judged(judge: Judge, limit: int = 3, min_score: float = 0.0) -> MatchResult:
    """The matches of u0 after the judge."""
    made = town()
    first = find_matches(made, request("u0", limit=3))
    options = StageOptions(enabled=True, top_k=3, min_score=min_score)
    return await judge_matches(judge, made, first, options, limit)


async def test_the_judges_order_stands_and_equal_scores_keep_the_order_so_far() -> None:
    result = await judged(Judge([0.2, 1, 0.2]))
    assert result.numbers.tolist() == [2, 1, 3]
    assert result.stage_scores["llm_judge"].tolist() == [1, 0.2, 0.2]
    assert list(result.stage_scores)[-1] == "llm_judge"
    assert result.stage_scores["cross_encoder"] == pytest.approx([1 / 3, 1 / 2, 1 / 4])
    assert (result.counts["llm_judge"], result.judge_failure) == (3, "")


async def test_min_score_and_limit_cut_after_the_judge() -> None:
    result = await judged(Judge([0.5, 0.4, 0.6]), min_score=0.5)
    assert (result.numbers.tolist(), result.counts["llm_judge"]) == ([3, 1], 2)
    assert (await judged(Judge([0.5, 0.4, 0.6]), limit=1)).numbers.tolist() == [3]


@pytest.mark.parametrize(
    "answer",
    [
        JudgeFailedError("did not answer within 3 s"),
        [0.1, 0.2],
        [0.1, 0.2, 1.5],
        [0.1, 0.2, NAN],
        [0.1, 0.2, True],
        [0.1, 0.2, "0.3"],
    ],
)
async def test_a_judge_that_fails_leaves_the_order_so_far_and_says_why(
    answer: Sequence[object] | Exception,
) -> None:
    result = await judged(Judge(answer), limit=2)
    assert result.numbers.tolist() == [1, 2]
    assert "llm_judge" not in result.stage_scores
    assert "llm_judge" not in result.counts
    assert "answer" in result.judge_failure
    assert "llm_judge" in result.seconds


async def test_nobody_to_judge_is_not_asked_about() -> None:
    made, judge = served(partition(rows([0])), AGE_HEAD), Judge([])
    first = find_matches(made, request("u0"))
    options = StageOptions(enabled=True, top_k=3)
    assert not len((await judge_matches(judge, made, first, options, 5)).rows)
    assert judge.asked == []


def test_facts_are_readable_and_without_what_is_not_known() -> None:
    made = partition(
        rows(
            [0, 1],
            age=[30, NAN],
            goal=[1, NAN],
            smoker=[0, NAN],
            joined=[86_400, NAN],
            taste=[0.25, NAN],
            cities=["Oslo", ""],
        )
    )
    assert read_facts(made, made.view, np.arange(2)) == [
        {
            "age": 30,
            "goal": "love",
            "smoker": False,
            "joined": "1970-01-02T00:00:00Z",
            "taste": 0.25,
            "city": "Oslo",
        },
        {},
    ]


async def test_the_judge_reads_the_seeker_and_the_candidates_in_their_order() -> None:
    judge = Judge([0, 0, 0])
    await judged(judge)
    assert judge.asked == [{"age": 40}, {"age": 1}, {"age": 2}, {"age": 3}]
