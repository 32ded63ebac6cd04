"""The approximate index finds whom an exact scan finds: inside a mask, after any change."""

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from services.serving import index as inverted_lists
from services.serving.core import find_matches as planner
from services.serving.core.candidates import (
    FieldSpec,
    Floats,
    Layout,
    Mask,
    Partition,
    ProfileRows,
    Rows,
)
from services.serving.core.filters import read_filters
from services.serving.core.find_matches import MatchRequest, find_matches
from services.serving.core.loaded_head import ServedDomain, own_queries
from services.serving.core.stages import read_stages
from services.serving.index import RECALL_MIN, FaissIndex, FaissIndexBuilder
from tests.support.candidates import served

DIM = 32
QUERIES = 64
ALL_LISTS = 1_000_000
RECALL_AT_10_MIN = 0.985
"""Measured: 0.997 to 1; probes are calibrated for the hundred nearest."""

LAYOUT = Layout(
    version="plain.v1",
    fields=(FieldSpec("luck", "hard", "number", ()),),
    encoder="test",
    dim=DIM,
)


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / lengths, np.float32)


@cache
def crowd(count: int) -> Floats:
    """Vectors around fifty tastes, as texts lie."""
    random = np.random.default_rng(count)
    tastes = random.normal(size=(50, DIM))
    scatter = 0.5 * random.normal(size=(count, DIM))
    return unit((tastes[random.integers(0, 50, count)] + scatter).astype(np.float32))


def own(vectors: Floats) -> Floats:
    """Queries of the encoder alone: people's own vectors."""
    return vectors[np.random.default_rng(1).integers(0, len(vectors), QUERIES)]


def turned(vectors: Floats) -> Floats:
    """Queries of a head that has turned tastes: halfway to a random rotation."""
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0]
    queries = own(vectors)
    return unit(queries + queries @ rotation)


def nearest(vectors: Floats, query: Floats, mask: Mask, top_k: int) -> set[int]:
    """What an exact scan finds."""
    inside = np.flatnonzero(mask)
    cosines = vectors[inside] @ query
    if top_k < len(inside):
        inside = inside[np.argpartition(-cosines, top_k)[:top_k]]
    return set(inside.tolist())


def recall(index: FaissIndex, vectors: Floats, queries: Floats, top_k: int, probes: int) -> float:
    """Share of the true nearest that the index finds."""
    mask = np.ones(len(vectors), np.bool_)
    hits = [
        len(
            nearest(vectors, query, mask, top_k)
            & set(index.search(query, mask, top_k, probes).tolist())
        )
        for query in queries
    ]
    return sum(hits) / (top_k * len(queries))


@pytest.mark.parametrize("count", [1, 2, 100, 2_000])
def test_with_all_lists_it_is_exact(count: int) -> None:
    vectors = crowd(count)
    index = FaissIndex(vectors, 0)
    assert recall(index, vectors, own(vectors), min(10, count), ALL_LISTS) == 1


@pytest.mark.parametrize("ask", [own, turned])
@pytest.mark.parametrize("count", [2_000, 10_000])
def test_with_calibrated_probes_hardly_anyone_near_is_missed(
    count: int, ask: Callable[[Floats], Floats]
) -> None:
    vectors = crowd(count)
    index, queries = FaissIndex(vectors, 0), ask(vectors)
    probes, promised = index.calibrate(queries)
    assert probes < np.sqrt(count) / 2  # of about as many lists as that: it must pay
    assert promised >= RECALL_MIN
    assert recall(index, vectors, queries, 100, probes) == pytest.approx(promised, abs=1e-3)
    assert recall(index, vectors, queries, 10, probes) >= RECALL_AT_10_MIN


def test_calibration_gives_the_fewest_probes_that_do() -> None:
    vectors = crowd(10_000)
    index, queries = FaissIndex(vectors, 0), turned(vectors)
    probes, _ = index.calibrate(queries)
    assert recall(index, vectors, queries, 100, probes - 1) < RECALL_MIN


def test_calibration_on_a_sample_holds_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_lists, "SAMPLE_ROWS_MAX", 2_500)
    vectors = crowd(10_000)
    index, queries = FaissIndex(vectors, 0), turned(vectors)
    probes, promised = index.calibrate(queries)
    assert promised >= RECALL_MIN
    assert recall(index, vectors, queries, 100, probes) >= RECALL_MIN - 0.01


@pytest.mark.parametrize("share", [0.5, 0.01, 0.0])
def test_only_rows_inside_the_mask_are_found(share: float) -> None:
    vectors = crowd(2_000).copy()
    vectors[::10] = 0  # people of whom no text is known
    index = FaissIndex(vectors, 0)
    mask = np.random.default_rng(3).random(len(vectors)) < share
    for query in own(crowd(2_000)):
        found = index.search(query, mask, 100, ALL_LISTS)
        assert set(found.tolist()) == nearest(vectors, query, mask, 100)


def test_the_same_rows_give_the_same_index() -> None:
    vectors = crowd(2_000)
    mask = np.ones(len(vectors), np.bool_)
    first, second = FaissIndex(vectors, 0), FaissIndex(vectors, 0)
    for query in own(vectors):
        found = first.search(query, mask, 50, 3)
        assert found.tolist() == second.search(query, mask, 50, 3).tolist()


def people(numbers: Rows, vectors: Floats) -> ProfileRows:
    """People whose one field says nothing of their vectors."""
    luck = np.random.default_rng(len(numbers)).random((len(numbers), 1))
    return ProfileRows(
        user_ids=[f"u{number}" for number in numbers],
        numbers=numbers.astype(np.int32),
        vectors=vectors.astype(np.float16),
        columns=luck,
        strings={},
    )


def indexed(partition: Partition) -> ServedDomain:
    """The domain with an index of its rows as they are now, calibrated for its head."""
    made = served(partition)
    index = FaissIndexBuilder().build(partition.view)
    probes, _ = index.calibrate(own_queries(made.head, partition))
    return dataclasses.replace(made, index=index, probes_count=probes)


def agreement(made: ServedDomain, seekers: Rows, luck: float = 1.0, limit: int = 10) -> float:
    """Share of the best matches that are the same with the index and without it.

    `luck` is the share of people that pass the filter.
    """
    conditions = read_filters(made.partition, {"luck": {"lt": luck}})
    plain = dataclasses.replace(made, index=None)
    same = 0
    for number in seekers:
        wish = MatchRequest(
            user_id=f"u{number}", conditions=conditions, stages=read_stages({}), limit=limit
        )
        found, true = (find_matches(domain, wish).numbers for domain in (made, plain))
        assert len(true) == limit
        same += len(set(found.tolist()) & set(true.tolist()))
    return same / (limit * len(seekers))


@pytest.fixture
def partition(monkeypatch: pytest.MonkeyPatch) -> Partition:
    """A domain of 4,000 that is large enough to be searched by index, 50 rows at a time."""
    monkeypatch.setattr(planner, "EXACT_ROWS_MAX", 100)
    monkeypatch.setattr(planner, "PRESELECTED", 50)
    made = Partition(LAYOUT)
    made.apply_profiles(people(np.arange(4_000), crowd(4_000)))
    return made


SEEKERS = np.arange(0, 4_000, 100)


def test_matches_by_index_are_those_of_an_exact_scan(partition: Partition) -> None:
    assert agreement(indexed(partition), SEEKERS) >= RECALL_AT_10_MIN


@pytest.mark.parametrize("luck", [0.5, 0.2, 0.05])
def test_a_filter_costs_no_matches(partition: Partition, luck: float) -> None:
    assert agreement(indexed(partition), SEEKERS, luck, limit=50) >= 0.97


def test_people_who_changed_or_came_since_are_found_where_they_are_now(
    partition: Partition,
) -> None:
    made = indexed(partition)
    moved, newcomers = np.arange(1_000), np.arange(4_000, 4_300)
    partition.apply_profiles(people(moved, crowd(4_000)[::-1][:1_000]))
    partition.apply_profiles(people(newcomers, crowd(300)))
    assert made.index is not None
    assert partition.view.generation == made.index.generation
    assert agreement(made, np.concatenate([SEEKERS, newcomers[::30]])) >= RECALL_AT_10_MIN


def test_an_index_that_rows_have_moved_under_is_not_asked(partition: Partition) -> None:
    everyone = np.arange(4_000)
    partition.apply_profiles(people(everyone, crowd(4_000)))
    made = indexed(partition)
    partition.apply_profiles(people(everyone, crowd(4_000)[::-1]))  # and the dead's rows are freed
    assert made.index is not None
    assert partition.view.generation != made.index.generation
    assert agreement(made, SEEKERS) == 1
