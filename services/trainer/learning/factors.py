"""Who goes with whom: vectors of candidates, from whom the same seekers have said yes to.

EASE (Steck 2019) in the basis of its largest eigenvectors, with two changes. Two candidates are
joined by each seeker of both, and once more by one who chose them soon after each other (P, within
a window): such a pair says more. And a query weights a seeker's history, the latest most.

    G = XᵀX + β P      Λ = ridge + β/2 P 1      Λ^-½ G Λ^-½ ≈ Z w Zᵀ      f = w / (1 + w)

The inverse of G + Λ is then Λ^-½ (1 - Z f Zᵀ) Λ^-½, and a seeker with history x scores candidate c
outside of it by (x Λ^-½ Z f^½) (f^½ Z_c Λ_c^½ / (1 - Σ f Z_c²)): what the history adds to a query
times a vector of the candidate.

Shapes: n positive outcomes, S seekers, m candidates, k rank, d dim of the encoder.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.recipe import FactorsRecipe
from services.trainer.learning.snapshot import Snapshot

LEVERAGE_MAX = 0.999
EIGENVALUE_MIN = 1e-9
SPARE_RANK = 32
"""More directions than are kept let the kept ones converge (Halko, Martinsson and Tropp 2011)."""
CONTENT_RIDGE = 10.0
PAIRS_PER_PASS = 65_536
"""Bounds the memory of scoring pairs."""


@dataclass(frozen=True, slots=True)
class Histories:
    """Positive outcomes: seeker by seeker, the latest of each last."""

    rows: Tensor
    """int64 [n]: of the snapshot's outcomes."""
    seekers: Tensor
    """int64 [n]: numbers of people."""
    places: Tensor
    """int64 [n]: of the candidates among `people`."""
    people: Tensor
    """int64 [m]: numbers of the candidates, ascending."""
    later: Tensor
    """int64 [n]: how many outcomes of the same seeker are later."""


def read_histories(snapshot: Snapshot, rows: Tensor) -> Histories:
    """The positive ones of some outcomes; those of one moment by the candidates' numbers."""
    rows = rows[snapshot.positive[rows] > 0]
    keys = (snapshot.candidates[rows], snapshot.times[rows], snapshot.seekers[rows])
    order = np.lexsort([key.cpu().numpy() for key in keys])
    rows = rows[torch.from_numpy(order).to(rows.device)]
    seekers = snapshot.seekers[rows]
    people, places = snapshot.candidates[rows].unique(return_inverse=True)
    ends = torch.searchsorted(seekers, seekers, right=True)
    later = ends - 1 - torch.arange(len(rows), device=rows.device)
    return Histories(rows, seekers, places, people, later)


@dataclass(frozen=True, slots=True)
class Recency:
    """How much less an earlier outcome of a history counts: `floor` plus what falls off."""

    floor: float
    places: float

    def weights(self, later: Tensor) -> Tensor:
        """float32, of outcomes with so many later ones."""
        return self.floor + (1 - self.floor) * torch.exp(-later.float() / self.places)


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a fit gives."""

    people: Tensor
    """int64 [m], ascending."""
    history: Tensor
    """float32 [m, k]"""
    candidates: Tensor
    """float32 [m, k]"""

    def rounded(self, scale: float) -> "Vectors":
        """As they are stored: float16, the candidates' times a scale."""
        history, candidates = self.history.half().float(), (self.candidates * scale).half().float()
        return Vectors(self.people, history, candidates)

    def places(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Places of people in the tables, and whether they have one."""
        places = torch.searchsorted(self.people, numbers).clamp(max=len(self.people) - 1)
        return places, self.people[places] == numbers


def fit_vectors(histories: Histories, recipe: FactorsRecipe, ridge: float, seed: int) -> Vectors:
    """Fits vectors to histories; the same on every run with one thread."""
    graph = _Graph(histories, recipe)
    size = len(histories.people)
    rank = min(recipe.rank, max(1, recipe.numbers_max // max(1, size)), size)
    shrink = ridge + recipe.follows_weight / 2 * graph.follows_sum
    values, basis = _largest(graph, shrink.rsqrt(), rank, recipe, seed)
    filtered = values / (1 + values)
    leverage = (basis.square() @ filtered).clamp(max=LEVERAGE_MAX)
    scaled = basis * filtered.sqrt()
    return Vectors(
        histories.people,
        scaled * shrink.rsqrt()[:, None],
        scaled * (shrink.sqrt() / (1 - leverage))[:, None],
    )


def _largest(
    graph: "_Graph", scale: Tensor, rank: int, recipe: FactorsRecipe, seed: int
) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues [k] and their vectors [m, k], by subspace iteration."""
    size = len(scale)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(size, min(rank + SPARE_RANK, size), generator=generator)
    basis = start.to(scale.device)

    def apply(vectors: Tensor) -> Tensor:
        return scale[:, None] * graph.multiply(scale[:, None] * vectors)

    for _ in range(recipe.iterations):
        basis = torch.linalg.qr(apply(basis))[0]
    small = basis.T @ apply(basis)
    values, rotation = torch.linalg.eigh((small + small.T) / 2)
    largest = torch.argsort(values, descending=True, stable=True)[:rank]
    return values[largest].clamp(min=EIGENVALUE_MIN), basis @ rotation[:, largest]


class _Graph:
    """G as an operator: XᵀX is never formed, P has at most two entries an outcome and place."""

    def __init__(self, histories: Histories, recipe: FactorsRecipe) -> None:
        _, owners = histories.seekers.unique(return_inverse=True)
        self._size = len(histories.people)
        shape = (int(owners.max()) + 1 if len(owners) else 0, self._size)
        ones = torch.ones(len(owners), device=owners.device)
        chosen = _sparse(torch.stack([owners, histories.places]), ones, shape)
        self._chosen, self._chosen_by = chosen, chosen.t().coalesce()
        self._weight = recipe.follows_weight
        self._follows = self._join(owners, histories.places, recipe)
        every = torch.ones(self._size, 1, device=owners.device)
        self.follows_sum = (self._follows @ every)[:, 0]

    def multiply(self, vectors: Tensor) -> Tensor:
        """G times vectors [m, j]."""
        together: Tensor = self._chosen_by @ (self._chosen @ vectors)
        return together + self._weight * (self._follows @ vectors)

    def _join(self, owners: Tensor, places: Tensor, recipe: FactorsRecipe) -> Tensor:
        """P: a window too large for so many outcomes is cut, to nothing if need be."""
        window = min(recipe.window, recipe.follows_max // max(1, 2 * len(owners)))
        ends: list[Tensor] = [torch.zeros(2, 0, dtype=torch.int64, device=owners.device)]
        weights: list[Tensor] = [torch.zeros(0, device=owners.device)]
        for apart in range(1, min(window + 1, len(owners))):
            same = owners[apart:] == owners[:-apart]
            pair = torch.stack([places[apart:][same], places[:-apart][same]])
            ends += [pair, pair.flip(0)]
            share = torch.full((2 * pair.shape[1],), recipe.window_decay ** (apart - 1))
            weights.append(share.to(owners.device))
        shape = (self._size, self._size)
        return _sparse(torch.cat(ends, 1), torch.cat(weights), shape)


def _sparse(indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    made: Tensor = torch.sparse_coo_tensor(indices, values, shape, check_invariants=False)
    return made.coalesce()


def make_queries(
    vectors: Vectors, histories: Histories, recency: Recency, users_count: int
) -> Tensor:
    """Queries [U, k] from histories; those without any ask like the mean of the others."""
    numbers = histories.people[histories.places]
    places, known = vectors.places(numbers)
    weights = recency.weights(histories.later) * known
    queries = torch.zeros(users_count, vectors.history.shape[1], device=weights.device)
    for part in torch.arange(len(places), device=weights.device).split(PAIRS_PER_PASS):
        added = vectors.history[places[part]] * weights[part, None]
        queries.index_add_(0, histories.seekers[part], added)
    asked = torch.zeros(users_count, dtype=torch.bool, device=weights.device)
    asked[histories.seekers[known]] = True
    queries[~asked] = mean_query(queries, asked)
    return queries


def mean_query(queries: Tensor, asked: Tensor) -> Tensor:
    """The mean [k] of those queries that have a history."""
    return queries[asked].mean(0) if bool(asked.any()) else torch.zeros_like(queries[0])


def fit_content(snapshot: Snapshot, vectors: Vectors) -> Tensor:
    """From encoder vectors to those of candidates [d, k], for whoever comes later; [0, k] without.

    Ridge regression: what texts do not tell is left at zero.
    """
    texts = snapshot.vectors[vectors.people]
    if not bool(texts.any()):
        return vectors.candidates[:0]
    gram = texts.T @ texts
    gram.diagonal().add_(CONTENT_RIDGE)
    content: Tensor = torch.linalg.solve(gram, texts.T @ vectors.candidates)
    return content.half().float()


def score_pairs(
    snapshot: Snapshot,
    vectors: Vectors,
    content: Tensor,
    queries: Tensor,
    pairs: tuple[Tensor, Tensor],
) -> Tensor:
    """What the queries of seekers say of candidates: float32, one a pair."""
    scores: list[Tensor] = []
    for seekers, candidates in zip(*(n.split(PAIRS_PER_PASS) for n in pairs), strict=True):
        places, known = vectors.places(candidates)
        asked = queries[seekers]
        found = (asked * vectors.candidates[places]).sum(1) * known
        if len(content):
            told = ((snapshot.vectors[candidates] @ content) * asked).sum(1)
            found = torch.where(known, found, told)
        scores.append(found)
    return torch.cat(scores) if scores else torch.zeros(0)


def calibrate(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """Slope and intercept that turn scores into logits: logistic regression by Newton's method."""
    if not positive.any():
        return 1.0, 0.0
    scale = float(scores.double().std(correction=0)) or 1.0
    design = torch.stack([scores.double() / scale, torch.ones_like(scores.double())], 1)
    weights = torch.zeros(2, dtype=torch.float64, device=scores.device)
    for _ in range(30):
        chances = torch.sigmoid(design @ weights)
        gradient = design.T @ (positive.double() - chances) - 1e-3 * weights
        bend = (design * (chances * (1 - chances))[:, None]).T @ design
        bend.diagonal().add_(1e-3)
        weights = weights + torch.linalg.solve(bend, gradient).clamp(-2, 2)
    slope, intercept = (float(value) for value in weights)
    return max(slope, 0.0) / scale, intercept if math.isfinite(intercept) else 0.0
