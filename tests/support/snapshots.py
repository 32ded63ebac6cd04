"""Made-up domains with known truth, as snapshots."""

import json
from typing import Any

import numpy as np
from safetensors.numpy import save

from services.triplets.core.pages import NO_PAGES, Pages
from services.triplets.core.triplet import form_triplets, hash_ids

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "type": "integer", "members": []},
    {"name": "income", "type": "number", "members": []},
    {"name": "smoker", "type": "boolean", "members": []},
    {"name": "goal", "type": "enum", "members": ["fun", "love", "friends"]},
]
DIM = 16


def snapshot(
    people: int = 80,
    partners: int = 14,
    seed: int = 0,
    *,
    columns: list[dict[str, Any]] = COLUMNS,
    taste: float = 0.0,
    positive: float | None = None,
    textless: int = 0,
) -> bytes:
    """A snapshot in which some people are easily pleased, others please easily, and age attracts.

    `taste` is how much a seeker's income decides which ages they like; `positive` fixes everyone's
    chance of a yes; the first `textless` people have no vector.
    """
    random = np.random.default_rng(seed)
    values = np.full((people, len(columns)), np.nan, np.float32)
    for index, column in enumerate(columns):
        members = column["members"]
        if members:
            values[:, index] = random.integers(0, len(members), people)
        elif column["type"] == "boolean":
            values[:, index] = random.random(people) < 0.4
        else:
            values[:, index] = random.normal(size=people)
        values[random.random(people) < 0.1, index] = np.nan
    ease, appeal = random.normal(size=(2, people))
    vectors = random.normal(size=(people, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:textless] = 0

    seekers = np.repeat(np.arange(people, dtype=np.int32), partners)
    candidates = np.concatenate(
        [
            random.choice(np.delete(np.arange(people), s), partners, replace=False)
            for s in range(people)
        ]
    ).astype(np.int32)
    known = np.nan_to_num(values)
    logits = ease[seekers] + appeal[candidates]
    if len(columns) > 1:
        age, income = known[:, 0], known[:, 1]
        logits = logits + 0.8 * age[candidates] + taste * income[seekers] * age[candidates]
    chance = 1 / (1 + np.exp(-logits)) if positive is None else np.full(len(logits), positive)
    levels = np.where(random.random(len(seekers)) < chance, 2, 0).astype(np.int8)
    seconds = random.permutation(len(seekers))
    return pack(values, vectors, seekers, candidates, levels, seconds=seconds, columns=columns)


def pack(
    values: np.ndarray,
    vectors: np.ndarray,
    seekers: np.ndarray,
    candidates: np.ndarray,
    levels: np.ndarray,
    *,
    seconds: np.ndarray,
    columns: list[dict[str, Any]],
    pages: Pages = NO_PAGES,
    reciprocal: bool = False,
) -> bytes:
    """Arrays as the triplet store writes them."""
    order = np.lexsort((candidates, seekers))
    seekers, candidates, levels = seekers[order], candidates[order], levels[order]
    weights = np.ones(len(seekers), np.float32)
    hashes = hash_ids(f"person-{number}" for number in range(len(values)))
    triplets = form_triplets(seekers, candidates, levels, weights, hashes)
    layout = {"encoder": "test", "rule_version": "1", "columns": columns, "reciprocal": reciprocal}
    tensors = {
        "user_hashes": hashes.view(np.int64),
        "vectors": vectors.astype(np.float16),
        "columns": values.astype(np.float32),
        "seekers": seekers,
        "candidates": candidates,
        "levels": levels,
        "outcome_weights": weights,
        "times": seconds[order].astype(np.int64) * 1_000_000,
        "triplets": triplets.indices,
        "triplet_weights": triplets.weights,
        "page_seekers": pages.seekers,
        "page_times": pages.times,
        "page_explored": pages.explored,
        "slot_pages": pages.slot_pages,
        "slot_candidates": pages.candidates,
        "slot_ranks": pages.ranks,
        "slot_propensities": pages.propensities,
        "slot_levels": pages.levels,
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return save(contiguous, metadata={"layout": json.dumps(layout)})
