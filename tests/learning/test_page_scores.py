"""Explored pages on their way to the gate: those shown meanwhile, scored as serving would rank."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from services.trainer.core.ports import HeadFiles, LearnedHead, ScoredPages
from services.trainer.core.recipe import DEFAULT_RECIPE, CrossRecipe, QueryMapRecipe
from services.trainer.core.watch import Watch
from services.trainer.learning.learner import TorchLearner
from services.trainer.learning.snapshot import read_snapshot
from services.triplets.core.pages import Pages
from tests.support.snapshots import COLUMNS, pack, snapshot

PEOPLE, PARTNERS, PAGES, SLOTS = 80, 14, 120, 5
SHORT = dataclasses.replace(
    DEFAULT_RECIPE, cross=CrossRecipe(epochs=4), query_map=QueryMapRecipe(epochs=3)
)


def shown(seed: int = 0) -> Pages:
    """Random pages, every second one before the gate's first outcome."""
    random = np.random.default_rng(seed)
    seekers = random.integers(0, PEOPLE, PAGES)
    candidates = [
        random.choice(np.delete(np.arange(PEOPLE), seeker), SLOTS, replace=False)
        for seeker in seekers
    ]
    late = PEOPLE * PARTNERS * 1_000_000
    return Pages(
        seekers=seekers.astype(np.int32),
        times=np.where(np.arange(PAGES) % 2 == 0, 0, late).astype(np.int64),
        explored=random.random(PAGES) < 0.5,
        slot_pages=np.repeat(np.arange(PAGES, dtype=np.int32), SLOTS),
        candidates=np.concatenate(candidates).astype(np.int32),
        ranks=np.tile(np.arange(1, SLOTS + 1, dtype=np.int32), PAGES),
        propensities=random.uniform(0.1, 1, PAGES * SLOTS),
        levels=random.integers(-1, 4, PAGES * SLOTS).astype(np.int8),
    )


def with_pages(pages: Pages, *, reciprocal: bool = False) -> bytes:
    """A domain that has shown them."""
    arrays = load(snapshot(PEOPLE, PARTNERS))
    return pack(
        arrays["columns"],
        arrays["vectors"],
        arrays["seekers"],
        arrays["candidates"],
        arrays["levels"],
        seconds=arrays["times"] // 1_000_000,
        columns=COLUMNS,
        pages=pages,
        reciprocal=reciprocal,
    )


def learn(content: bytes, incumbent: HeadFiles | None = None, most: int = 50_000) -> LearnedHead:
    recipe = dataclasses.replace(SHORT, evaluation_slots_max=most)
    return TorchLearner("cpu", recipe).learn(content, incumbent, None, 0, Watch("", ""))


def scored(head: LearnedHead) -> ScoredPages:
    assert head.evaluation.pages is not None
    return head.evaluation.pages


def rows(pages: ScoredPages) -> set[tuple[float, ...]]:
    """What the gate is told of each slot, but for the numbers of pages."""
    seekers = pages.seekers[pages.slot_pages]
    explored = pages.explored[pages.slot_pages]
    columns = (seekers, explored, pages.ranks, pages.propensities, pages.levels)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def test_the_gate_reads_the_pages_that_were_shown_since_its_first_outcome() -> None:
    pages = shown()
    found = scored(learn(with_pages(pages)))
    late = (np.arange(PAGES) % 2 == 1)[pages.slot_pages]
    at = pages.slot_pages[late]
    slots = (pages.ranks[late], pages.propensities[late], pages.levels[late])
    columns = (pages.seekers[at], pages.explored[at], *slots)
    assert rows(found) == set(zip(*(column.tolist() for column in columns), strict=True))
    assert len(found.seekers) == PAGES / 2
    assert found.slot_pages.tolist() == np.repeat(np.arange(PAGES // 2), SLOTS).tolist()


def test_a_pages_slots_stand_by_their_candidates_and_not_by_their_ranks() -> None:
    pages = shown()
    found = scored(learn(with_pages(pages)))
    known = dict(zip(pages.propensities.tolist(), pages.candidates.tolist(), strict=True))
    candidates = np.array([known[p] for p in found.propensities.tolist()])
    assert (np.diff(candidates.reshape(-1, SLOTS), axis=1) > 0).all()


def test_a_domain_that_does_not_explore_gives_no_pages() -> None:
    assert learn(snapshot(PEOPLE, PARTNERS)).evaluation.pages is None


def test_a_snapshot_of_files_has_no_pages() -> None:
    content = snapshot(PEOPLE, PARTNERS)
    tensors = {n: t for n, t in load(content).items() if not n.startswith(("page_", "slot_"))}
    layout = {"encoder": "files", "rule_version": "1", "columns": []}
    read = read_snapshot(save(tensors, metadata={"layout": json.dumps(layout)}))
    assert (len(read.pages.seekers), len(read.pages.levels), read.reciprocal) == (0, 0, False)


def test_the_newest_pages_go_first() -> None:
    pages = shown()
    found = scored(learn(with_pages(pages), most=3 * SLOTS + 1))
    newest = pages.seekers[np.arange(PAGES) % 2 == 1][-3:]
    assert sorted(found.seekers.tolist()) == sorted(newest.tolist())


@pytest.mark.parametrize("reciprocal", [False, True])
def test_both_heads_rank_as_serving_would(*, reciprocal: bool) -> None:
    content = with_pages(shown(), reciprocal=reciprocal)
    first = learn(content)
    cosines = scored(first).incumbent_scores
    assert (np.abs(cosines) <= 1.001).all()
    assert cosines.min() < 0 < cosines.max()
    again = scored(learn(content, first.files))
    assert np.allclose(again.incumbent_scores, again.challenger_scores, atol=1e-4)
    assert np.allclose(again.challenger_scores, scored(first).challenger_scores, atol=1e-6)


def test_in_a_reciprocal_domain_a_score_joins_both_ways() -> None:
    one_way, both = (scored(learn(with_pages(shown(), reciprocal=r))) for r in (False, True))
    assert (both.challenger_scores < one_way.challenger_scores).all()


def test_pages_do_not_change_what_is_learned() -> None:
    plain, explored = learn(with_pages(shown(1))), learn(with_pages(shown(2)))
    assert plain.files == explored.files
