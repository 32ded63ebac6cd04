"""A run of a domain where hardly anybody says no: seekers choose from a catalogue.

There are no triplets to learn from, so the recipe draws negatives: candidates whom the seeker has
not chosen, for the gate and the calibration. Vectors of candidates are fitted to the choices
(factors.py); the other parts of the head stand still. Which ridge, and how much a history's latest
choices count, is decided by two questions about choices held out of the training ones: which others
has a seeker made, and which was the next. A recency that costs the first question more than a
little is no option; of the rest the second decides.

Time is each seeker's own: the last choices of all are what the gate sees.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.recipe import FactorsRecipe, Recipe
from services.trainer.core.watch import LossPoint
from services.trainer.learning.factors import (
    Recency,
    Vectors,
    calibrate,
    fit_vectors,
    make_queries,
    read_histories,
    score_pairs,
)
from services.trainer.learning.journal import Journal
from services.trainer.learning.snapshot import Snapshot

NEGATIVE_SHARE_MIN = 0.05
RANKS = 10
SEEKERS_PER_PASS = 256


class Settings(NamedTuple):
    """What a run decides, beside the vectors."""

    ridge: float
    recency: Recency
    slope: float
    """Logit of a score of 1, less the intercept."""
    intercept: float


def is_catalogue(snapshot: Snapshot) -> bool:
    """Whether so few outcomes are negative that negatives have to be drawn; never of two sides."""
    if snapshot.reciprocal:
        return False
    negatives = float((snapshot.positive == 0).double().sum())
    return len(snapshot.positive) > 0 and negatives < NEGATIVE_SHARE_MIN * len(snapshot.positive)


class Choices(NamedTuple):
    """Rows of the positive outcomes, by each seeker's own time."""

    known: Tensor
    gate: Tensor


def split_choices(snapshot: Snapshot, gate_share: float) -> Choices:
    """Holds the last share of each seeker's choices out for the gate."""
    histories = read_histories(snapshot, torch.arange(len(snapshot.seekers)))
    totals = torch.bincount(histories.seekers, minlength=snapshot.users_count)
    late = histories.later < torch.floor(gate_share * totals[histories.seekers] + 0.5)
    return Choices(histories.rows[~late], histories.rows[late])


def with_negatives(
    snapshot: Snapshot, rows: Tensor, count: int, seed: int
) -> tuple[Snapshot, Tensor]:
    """The snapshot with `count` drawn negatives for each of some rows; those rows and the drawn.

    Whom somebody has chosen is never drawn for them; every candidate else is as likely.
    """
    seekers, candidates = snapshot.seekers.cpu().numpy(), snapshot.candidates.cpu().numpy()
    catalogue = np.unique(candidates)
    chosen = np.unique(seekers * np.int64(snapshot.users_count) + candidates)
    asked = np.repeat(seekers[rows.cpu().numpy()], count)
    drawn = catalogue[np.random.default_rng(seed).integers(0, len(catalogue), len(asked))]
    pairs = np.unique(asked * np.int64(snapshot.users_count) + drawn)
    pairs = pairs[~np.isin(pairs, chosen)]
    device, first = rows.device, len(seekers)

    def extend(values: Tensor, more: Tensor) -> Tensor:
        return torch.cat([values, more.to(values)])

    new = torch.from_numpy(pairs)
    zeros = torch.zeros(len(pairs))
    extended = replace(
        snapshot,
        seekers=extend(snapshot.seekers, new // snapshot.users_count),
        candidates=extend(snapshot.candidates, new % snapshot.users_count),
        levels=extend(snapshot.levels, zeros),
        positive=extend(snapshot.positive, zeros),
        weights=extend(snapshot.weights, zeros + 1),
        times=extend(snapshot.times, zeros),
        pair_hashes=extend(snapshot.pair_hashes, new),
    )
    every = torch.cat([rows, torch.arange(first, first + len(pairs), device=device)])
    return extended, every[torch.argsort(extended.seekers[every], stable=True)]


class Search:
    """Which settings answer the two questions best; each ridge is a step of the journal."""

    def __init__(
        self, snapshot: Snapshot, rows: Tensor, recipe: Recipe, seed: int, journal: Journal
    ) -> None:
        self._snapshot = snapshot
        self._recipe: FactorsRecipe = recipe.factors
        self._seed = seed
        self._journal = journal
        histories = read_histories(snapshot, rows)
        hashes = snapshot.pair_hashes[histories.rows]
        alone = histories.seekers.unique(return_counts=True)[1].max() == 1
        self._next = (histories.later == 0) & ~alone  # of single choices nothing is left to know
        self._other = ~self._next & (hashes // 4096 % self._recipe.held_out_parts == 0) & ~alone
        self._rows = histories.rows
        self._training = read_histories(snapshot, histories.rows[~self._next & ~self._other])

    def run(self) -> Settings:
        """Tries ridges from the middle on, for as long as one is better than those before."""
        ridges, stage = self._recipe.ridges, self._journal.stage("factors")
        found: dict[int, dict[int, tuple[float, float]]] = {}
        for name, value in stage.numbers.items():
            tried, recency, question = (int(part) for part in name.split("/"))
            pair = found.setdefault(tried, {}).get(recency, (0.0, 0.0))
            found[tried][recency] = (value, pair[1]) if question == 0 else (pair[0], value)
        while not (found and self._journal.stopping):
            place = _following(found, len(ridges))
            if place is None:
                break
            found[place] = self._measure(ridges[place])
            for recency, answers in found[place].items():
                for question, answer in enumerate(answers):
                    stage.numbers[f"{place}/{recency}/{question}"] = answer
            best = max(answers[0] for answers in found[place].values())
            self._journal.step(stage, LossPoint("embedding", stage.done + 1, 1 - best, best))
        chosen, recency = self._choose(found)
        return self._calibrate(ridges[chosen], self._recency(recency))

    def _choose(self, found: dict[int, dict[int, tuple[float, float]]]) -> tuple[int, int]:
        """Ridge and recency: next to the best at the first question, best at the second."""
        every = [(place, r, *a) for place, some in sorted(found.items()) for r, a in some.items()]
        enough = (1 - self._recipe.others_loss_max) * max(others for _, _, others, _ in every)
        able = [row for row in every if row[2] >= enough]
        place, recency, _, _ = max(able, key=lambda row: (row[3], row[2]))
        return place, recency

    def _measure(self, ridge: float) -> dict[int, tuple[float, float]]:
        """NDCG@10 of both questions under each recency."""
        vectors = fit_vectors(self._training, self._recipe, ridge, self._seed)
        return {
            number: self._answer(vectors, self._recency(number))
            for number in range(len(self._recipe.recency_places))
        }

    def _recency(self, number: int) -> Recency:
        return Recency(self._recipe.recency_floor, self._recipe.recency_places[number])

    def _answer(self, vectors: Vectors, recency: Recency) -> tuple[float, float]:
        users_count = self._snapshot.users_count
        queries = make_queries(vectors, self._training, recency, users_count)
        others, following = (
            self._ndcg(vectors, queries, self._rows[part]) for part in (self._other, self._next)
        )
        return others, following

    def _ndcg(self, vectors: Vectors, queries: Tensor, rows: Tensor) -> float:
        """NDCG@10 from the whole catalogue less the known choices, of at most so many seekers."""
        snapshot, training = self._snapshot, self._training
        seekers, candidates = snapshot.seekers[rows], snapshot.candidates[rows]
        asked = seekers.unique()[: self._recipe.seekers_max]
        if not len(asked):
            return 0.0
        places, known = vectors.places(candidates)
        discounts = 1 / torch.log2(torch.arange(RANKS, device=rows.device) + 2.0)
        ratios: list[Tensor] = []
        for some in asked.split(SEEKERS_PER_PASS):
            scores = queries[some] @ vectors.candidates.T
            wanted = torch.zeros_like(scores)
            mine, own = _inside(some, training.seekers)
            scores[mine, training.places[own]] = -torch.inf
            mine, own = _inside(some, seekers)
            kept = known[own]
            wanted[mine[kept], places[own][kept]] = 1.0
            totals = torch.bincount(mine, minlength=len(some))
            top = scores.topk(min(RANKS, scores.shape[1]), dim=1).indices
            gains = wanted.gather(1, top) * discounts[: top.shape[1]]
            ideal = discounts.cumsum(0)[totals.clamp(1, RANKS) - 1]
            ratios.append(gains.sum(1) / ideal)
        return float(torch.cat(ratios).mean())

    def _calibrate(self, ridge: float, recency: Recency) -> Settings:
        """Slope and intercept from what was held out, against drawn negatives."""
        rows = self._rows[self._next | self._other]
        count, seed = self._recipe.negatives, self._seed
        snapshot, rows = with_negatives(self._snapshot, rows, count, seed)
        vectors = fit_vectors(self._training, self._recipe, ridge, self._seed)
        queries = make_queries(vectors, self._training, recency, snapshot.users_count)
        pairs = (snapshot.seekers[rows], snapshot.candidates[rows])
        scores = score_pairs(snapshot, vectors, vectors.candidates[:0], queries, pairs)
        return Settings(ridge, recency, *calibrate(scores, snapshot.positive[rows]))


def _following(found: dict[int, dict[int, tuple[float, float]]], count: int) -> int | None:
    """The next ridge to try: beside the best so far, the larger first; None when both are known."""
    if not found:
        return count // 2
    best = max(found, key=lambda p: (max(a[0] for a in found[p].values()), -p))
    return next((p for p in (best + 1, best - 1) if 0 <= p < count and p not in found), None)


def _inside(some: Tensor, seekers: Tensor) -> tuple[Tensor, Tensor]:
    """Which of ascending people each outcome is of, and the outcomes of those people."""
    places = torch.searchsorted(some, seekers).clamp(max=len(some) - 1)
    own = torch.nonzero(some[places] == seekers)[:, 0]
    return places[own], own
