"""Rule v1: how outcomes become triplets, and how many there are without forming them.

A pair (seeker, candidate) stands in the set once, with its latest word. Each outcome is paired with
up to K weaker ones of the same seeker; which ones, when there are more, is decided by rendezvous
hashing of the two pairs' ids, so that the triplets are a pure function of the set: no order,
duplicate or late arrival can change them, and one more outcome changes few.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RULE_VERSION = "1"
NEGATIVES_MAX = 8
"""K: weaker outcomes that a stronger one is paired with at most."""

_PAIRS_PER_PASS = 4_000_000
"""Bounds the memory of hashing the outcomes of very busy seekers."""

Integers = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Triplets:
    """Triplets as arrays."""

    id_hashes: Hashes
    """[users] What the rule chose by."""
    indices: Integers
    """[n, 3]: anchor (user), positive and negative (rows of the outcomes they were formed from)."""
    weights: npt.NDArray[np.float32]
    """[n]: product of the two outcomes' weights and the gap between their levels."""


def count_triplets(level_counts: Sequence[int]) -> int:
    """How many triplets a seeker's outcomes give, from their number per level alone."""
    total = weaker = 0
    for count in level_counts:
        total += count * min(NEGATIVES_MAX, weaker)
        weaker += count
    return total


def hash_ids(user_ids: Iterable[str]) -> Hashes:
    """Hashes users' ids, uint64 [n], under the rule's own key."""
    key = f"trine.triplets.{RULE_VERSION}".encode()
    digests = b"".join(
        hashlib.blake2b(user_id.encode(), digest_size=8, key=key).digest() for user_id in user_ids
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def form_triplets(
    seekers: Integers,
    candidates: Integers,
    levels: npt.NDArray[np.int8],
    weights: npt.NDArray[np.float32],
    id_hashes: Hashes,
) -> Triplets:
    """Forms the triplets of n outcomes, at most one a pair.

    Args:
        seekers: [n] users' numbers.
        candidates: [n] users' numbers.
        levels: [n] strengths.
        weights: [n] weights.
        id_hashes: [users] from `hash_ids`, by number.

    Returns:
        The triplets, sorted by the outcomes' rows.
    """
    # Sorted so, the weaker outcomes of row i are the rows from its seeker's first to its own
    # level's first.
    order = np.lexsort((candidates, levels, seekers))
    seekers, levels = seekers[order], levels[order]
    seeker_starts = np.searchsorted(seekers, seekers, side="left")
    level_keys = seekers.astype(np.int64) * 128 + levels
    level_starts = np.searchsorted(level_keys, level_keys, side="left")
    weaker_counts = level_starts - seeker_starts

    outcome_hashes = _mix(id_hashes[seekers] ^ _mix(id_hashes[candidates[order]]))
    stronger, weaker = [], []
    for rows in _passes(weaker_counts):
        i, j = _enumerate_pairs(rows, seeker_starts[rows], weaker_counts[rows])
        chosen = _choose(i, outcome_hashes[i], outcome_hashes[j], weaker_counts[i])
        stronger.append(i[chosen])
        weaker.append(j[chosen])
    i = np.concatenate(stronger) if stronger else np.empty(0, np.int64)
    j = np.concatenate(weaker) if weaker else np.empty(0, np.int64)

    gaps = (levels[i] - levels[j]).astype(np.float32)
    anchors, positives, negatives = seekers[i], order[i], order[j]
    triplet_weights = weights[positives] * weights[negatives] * gaps
    canonical = np.lexsort((negatives, positives))
    indices = np.stack([anchors, positives, negatives], axis=1).astype(np.int32)
    return Triplets(id_hashes, indices[canonical], triplet_weights[canonical].astype(np.float32))


def _passes(weaker_counts: npt.NDArray[np.int64]) -> Iterable[npt.NDArray[np.int64]]:
    rows = np.flatnonzero(weaker_counts)
    passes = np.cumsum(weaker_counts[rows]) // _PAIRS_PER_PASS
    return np.split(rows, np.flatnonzero(np.diff(passes)) + 1) if len(rows) else []


def _enumerate_pairs(
    rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All (row, weaker row) of some rows."""
    ends = np.cumsum(counts)
    offsets = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    return np.repeat(rows, counts), np.repeat(starts, counts) + offsets


def _choose(
    rows: npt.NDArray[np.int64],
    stronger: Hashes,
    weaker: Hashes,
    counts: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Positions of the K pairs of each row that hash lowest; of all where there are no more."""
    few = np.flatnonzero(counts <= NEGATIVES_MAX)
    many = np.flatnonzero(counts > NEGATIVES_MAX)
    hashes = _mix(stronger[many] ^ _mix(weaker[many]))
    ranked = many[np.lexsort((hashes, rows[many]))]
    firsts = np.searchsorted(rows[ranked], rows[ranked], side="left")
    lowest = ranked[np.arange(len(ranked)) - firsts < NEGATIVES_MAX]
    return np.concatenate([few, lowest])


def _mix(values: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele, Lea, Flood 2014): every input bit moves every output bit."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
