"""Domains with made-up people, for tests of serving."""

import datetime

import numpy as np

from services.serving.core.candidates import FieldSpec, Layout, Partition, ProfileRows
from services.serving.core.loaded_head import LoadedHead, ServedDomain, general_head
from services.serving.core.seen import PairRows

LAYOUT = Layout(
    version="dating.v1",
    fields=(
        FieldSpec("age", "hard", "integer", ()),
        FieldSpec("city", "hard", "string", ()),
        FieldSpec("goal", "hard", "enum", ("fun", "love")),
        FieldSpec("smoker", "hard", "boolean", ()),
        FieldSpec("joined", "hard", "timestamp", ()),
        FieldSpec("taste", "derived", "number", ()),
        FieldSpec("about", "soft", "string", ()),
    ),
    encoder="test",
    dim=8,
)
NOW = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)


def rows(
    numbers: list[int], seed: int = 0, cities: list[str] | None = None, **columns: list[float]
) -> ProfileRows:
    """Profiles of users u<number>; columns not given have no value."""
    names = [field.name for field in LAYOUT.columns]
    values = np.full((len(numbers), len(names)), np.nan)
    for name, column in columns.items():
        values[:, names.index(name)] = column
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(len(numbers), LAYOUT.dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ProfileRows(
        user_ids=[f"u{number}" for number in numbers],
        numbers=np.array(numbers, np.int32),
        vectors=vectors.astype(np.float16),
        columns=values,
        strings={"city": cities or [""] * len(numbers)},
    )


def pairs(standing: dict[tuple[int, int], int], second: int = 0) -> PairRows:
    """What became of pairs (seeker, candidate), all at one moment."""
    numbers = np.array(list(standing), np.int32).reshape(-1, 2)
    times = np.full(len(standing), second * 1_000_000, np.int64)
    return PairRows(numbers, np.array(list(standing.values()), np.uint8), times)


def partition(*batches: ProfileRows) -> Partition:
    """A domain with some people."""
    made = Partition(LAYOUT)
    for batch in batches:
        made.apply_profiles(batch)
    return made


def served(made: Partition, head: LoadedHead | None = None) -> ServedDomain:
    """A domain as matches see it."""
    return ServedDomain(partition=made, head=head or general_head(made.layout), load_time=NOW)
