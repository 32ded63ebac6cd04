"""Ranking unseen: drawn, bounded, off the hot path, and added up for whoever is told."""

import asyncio
import dataclasses

import numpy as np
import pytest

from services.serving.core.candidates import Floats
from services.serving.core.find_matches import MatchRequest, find_matches
from services.serving.core.loaded_head import LoadedHead, ServedDomain, Trial
from services.serving.core.order import Place
from services.serving.core.ports import CANARY, SHADOW, DesiredChallenger
from services.serving.core.shadow import (
    QUEUE_MATCHES_MAX,
    Comparison,
    ShadowRanker,
    TrialJournal,
    compare_pages,
)
from services.serving.core.stages import read_stages
from tests.support.matching import AGE_HEAD, AgeScorers, domain, request

KEY = ("acme", "ro_2026_05_17_002")


class BrokenScorers(AgeScorers):
    """Fails in the last stage."""

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        raise RuntimeError("no such input")


class Told:
    """What operators would count."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.thrice = asyncio.Event()

    def __call__(self, result: str, comparison: Comparison | None) -> None:
        assert (comparison is not None) == (result == "compared")
        self.results.append(result)
        if len(self.results) == 3:
            self.thrice.set()


class Bench:
    """A domain whose encoder is challenged, and a ranker."""

    def __init__(self, step: str = SHADOW, share: float = 1.0, head: LoadedHead = AGE_HEAD) -> None:
        self.told = Told()
        self.journal = TrialJournal(self.told)
        self.ranker = ShadowRanker(self.journal)
        plain = domain(50)
        desired = DesiredChallenger(KEY[1], step, share, head.head, "tenant", "2" * 64)
        trial = Trial(desired, dataclasses.replace(plain, head=head))
        self.served: ServedDomain = dataclasses.replace(plain, trial=trial)

    def answer(self, wish: MatchRequest | None = None, count: int = 1) -> None:
        """Answers a match and offers it, so many times."""
        wish = wish or request()
        result = find_matches(self.served, wish)
        for _ in range(count):
            self.ranker.offer("acme", self.served, wish, result)

    @property
    def waiting(self) -> int:
        """Matches in the queue."""
        return self.ranker._waiting.qsize()

    async def work(self) -> None:
        """Ranks all that wait."""
        while self.waiting:
            await self.ranker.rank(self.ranker._waiting.get_nowait())


async def test_an_answered_match_is_ranked_again_and_compared() -> None:
    bench = Bench()
    bench.answer(request(limit=50))
    assert bench.told.results == []  # nothing is done while the match is answered
    await bench.work()
    ((key, figures),) = bench.journal.untold()
    assert (key, figures.matches_count, figures.errors_count) == (KEY, 1, 0)
    assert figures.overlap_sum == 1.0  # everyone is shown in both
    assert (figures.correlated_count, abs(figures.rank_correlation_sum) < 1) == (1, True)
    assert figures.challenger_seconds_sum > 0
    assert figures.incumbent_seconds_sum > 0
    assert bench.told.results == ["compared"]


async def test_it_runs_by_itself_beside_the_matches() -> None:
    bench = Bench()
    running = asyncio.create_task(bench.ranker.run())
    bench.answer(count=3)
    await bench.told.thrice.wait()
    running.cancel()
    assert bench.told.results == ["compared"] * 3


async def test_a_full_queue_drops_and_counts() -> None:
    bench = Bench()
    bench.answer(count=QUEUE_MATCHES_MAX + 7)
    assert bench.waiting == QUEUE_MATCHES_MAX
    ((_, figures),) = bench.journal.untold()
    assert (figures.dropped_count, figures.matches_count) == (7, 0)


async def test_a_share_of_first_pages_is_drawn_in_shadow_alone() -> None:
    bench = Bench(share=0.3)
    for _ in range(10):
        bench.answer(count=40)
        taken = bench.waiting
        await bench.work()
        assert 0 < taken < 40
    later = dataclasses.replace(request(), after=Place(1.0, "", 3))
    judged = dataclasses.replace(
        request(), stages=read_stages({"llm_judge": True}, judge_configured=True)
    )
    canary = Bench(CANARY)
    canary.answer()
    whole = Bench()
    whole.answer(later)
    whole.ranker.offer("acme", whole.served, judged, find_matches(whole.served, request()))
    whole.ranker.offer("acme", domain(50), request(), find_matches(whole.served, request()))
    assert (canary.waiting, whole.waiting) == (0, 0)


async def test_a_challenger_that_fails_is_counted_with_its_first_words() -> None:
    bench = Bench(head=dataclasses.replace(AGE_HEAD, scorers=BrokenScorers()))
    bench.answer(count=2)
    await bench.work()
    ((_, figures),) = bench.journal.untold()
    assert (figures.errors_count, figures.matches_count) == (2, 0)
    assert "no such input" in figures.error
    assert bench.told.results == ["failed", "failed"]


async def test_a_seeker_who_was_erased_meanwhile_is_no_error() -> None:
    bench = Bench()
    bench.answer()
    bench.served.partition.apply_removals(np.array([0], np.int32))
    await bench.work()
    assert bench.journal.untold() == []


def test_the_journal_tells_sums_until_they_have_arrived_and_forgets_what_is_over() -> None:
    journal = TrialJournal(lambda *_: None)
    journal.compared(KEY, Comparison(0.5, -0.5, 0.2, 0.1))
    journal.compared(KEY, Comparison(0.25, None, 0.2, 0.1))
    ((_, figures),) = journal.untold()
    assert (figures.matches_count, figures.overlap_sum) == (2, 0.75)
    assert (figures.rank_correlation_sum, figures.correlated_count) == (-0.5, 1)
    assert journal.untold() == []
    journal.tell_again(KEY)
    assert journal.untold() == [(KEY, figures)]
    journal.keep([KEY])
    journal.dropped(KEY)
    assert journal.untold()[0][1].matches_count == 2
    journal.keep([])
    journal.tell_again(KEY)
    assert journal.untold() == []


@pytest.mark.parametrize(
    ("shown", "again", "overlap", "correlation"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0, 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], 1.0, -1.0),
        ([1, 2, 3, 4], [9, 2, 8, 4], 0.5, 1.0),
        ([1, 2, 3, 4], [4, 2, 8, 9], 0.5, -1.0),
        ([1, 2, 3], [3, 1, 2], 1.0, -0.5),
        ([1, 2], [3, 2], 0.5, None),
        ([], [], 1.0, None),
    ],
)
def test_pages_are_compared(
    shown: list[int], again: list[int], overlap: float, correlation: float | None
) -> None:
    found = compare_pages(np.array(shown, np.int32), np.array(again, np.int32))
    assert found == (overlap, correlation)
