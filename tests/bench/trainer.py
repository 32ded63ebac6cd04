"""The trainer's two networks, stage by stage, against bare loops over the same arrays.

A stage checks itself after every epoch, keeps what a checkpoint needs and may be stopped after any
step; the bare loop has the same network, optimizer and batches, and does none of that.
"""

import dataclasses
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from services.trainer.core.recipe import DEFAULT_RECIPE, CrossRecipe, QueryMapRecipe
from services.trainer.core.watch import Watch
from services.trainer.learning.cross import PairNetwork
from services.trainer.learning.journal import Journal
from services.trainer.learning.light import EFFECTS, LightTraining
from services.trainer.learning.query_map import QueryMap
from services.trainer.learning.snapshot import (
    Snapshot,
    half,
    read_snapshot,
    split_outcomes,
    triplets_within,
)
from services.trainer.learning.stages import Stages
from tests.bench.table import Table
from tests.support.snapshots import snapshot

PEOPLE = 1_500
PARTNERS = 24
SEED = 0
FLOOR = "bare torch loop"


def measure_trainer(table: Table) -> None:
    """Triplets a second of the query map and of the cross stage."""
    recipe = dataclasses.replace(DEFAULT_RECIPE, patience=1_000)  # every epoch is run
    torch.set_num_threads(recipe.threads)
    arrays = read_snapshot(snapshot(PEOPLE, PARTNERS))
    parts = split_outcomes(arrays, recipe.split)
    stages = Stages(arrays, parts, recipe, SEED, Journal(None, Watch("", ""), 1, recipe))
    light, fit = stages.search_light()

    learned = recipe.query_map.epochs * len(triplets_within(arrays, parts.training))
    measured = learned / _seconds(lambda: stages.search_query_map(light))
    floor = learned / _seconds(_bare_map(arrays, light, parts.training, recipe.query_map))
    table.compare("triplets learned by the query map", measured, FLOOR, floor)

    halves = [half(arrays, parts.training, side) for side in (0, 1)]
    learned = recipe.cross.epochs * sum(len(triplets_within(arrays, rows)) for rows in halves)
    measured = learned / _seconds(lambda: stages.search_cross(light, fit))
    states = light.states(light.effects(fit, parts.training))
    floor = learned / _seconds(_bare_cross(arrays, states, halves, recipe.cross))
    table.compare("triplets learned by the cross stage", measured, FLOOR, floor)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _bare_map(
    arrays: Snapshot, light: LightTraining, rows: Tensor, recipe: QueryMapRecipe
) -> Callable[[], None]:
    """A softmax over explicit negatives and the batch's other candidates."""
    triplets = arrays.triplets[triplets_within(arrays, rows)]
    positives, counts = triplets[:, 1].unique(return_counts=True)
    negatives = pad_sequence(list(triplets[:, 2].split(counts.tolist())), batch_first=True)
    generator = torch.Generator().manual_seed(SEED)
    network = QueryMap(light.features, arrays.vectors.mean(0), recipe.rank, generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)

    def learn(places: Tensor) -> None:
        seekers = arrays.seekers[positives[places]]
        queries = network(arrays.columns[seekers], arrays.vectors[seekers])
        theirs = arrays.vectors[arrays.candidates[positives[places]]]
        others = arrays.vectors[arrays.candidates[negatives[places]]]
        own = (queries * theirs).sum(1, keepdim=True)
        explicit = torch.einsum("pd,pkd->pk", queries, others)
        logits = torch.cat([own, explicit, queries @ theirs.T], 1) / recipe.temperature
        loss = functional.cross_entropy(logits, torch.zeros(len(places), dtype=torch.int64))
        _step(optimizer, loss)

    def run() -> None:
        for _ in range(recipe.epochs):
            for places in torch.randperm(len(positives)).split(recipe.batch):
                learn(places)

    return run


def _bare_cross(
    arrays: Snapshot, states: Tensor, halves: list[Tensor], recipe: CrossRecipe
) -> Callable[[], None]:
    """Log-loss of outcomes and of triplets, one network for each half of the outcomes."""
    generator = torch.Generator().manual_seed(SEED)

    def learn(rows: Tensor, triplets: Tensor) -> None:
        network = PairNetwork(states.shape[1] - EFFECTS, recipe, generator)
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)

        def score(outcomes: Tensor) -> Tensor:
            seekers, candidates = arrays.seekers[outcomes], arrays.candidates[outcomes]
            residual: Tensor = network(states[seekers], states[candidates])
            return residual[:, 0]

        batches = max(1, len(rows) // recipe.batch)
        for _ in range(recipe.epochs):
            every, each = rows[torch.randperm(len(rows))], triplets[torch.randperm(len(triplets))]
            for batch in range(batches):
                some, (positive, negative) = every[batch::batches], each[batch::batches, 1:].T
                said = arrays.positive[some].float()
                loss = functional.binary_cross_entropy_with_logits(score(some), said)
                loss = loss + functional.softplus(score(negative) - score(positive)).mean()
                _step(optimizer, loss)

    def run() -> None:
        for rows in halves:
            learn(rows, arrays.triplets[triplets_within(arrays, rows)])

    return run


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
