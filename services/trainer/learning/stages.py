"""The stages of a run: each a loop that can be left and taken up again after any step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from services.trainer.core.recipe import Recipe
from services.trainer.core.watch import LossPoint
from services.trainer.learning.cross import CrossTraining
from services.trainer.learning.evaluate import EarlyStopping, Measure, hold_out, join, measure
from services.trainer.learning.journal import (
    Journal,
    Numbers,
    Stage,
    Trained,
    pack_training,
    unpack_training,
)
from services.trainer.learning.light import LightTraining
from services.trainer.learning.mixed_model import Fit
from services.trainer.learning.prior import Prior
from services.trainer.learning.query_map import QueryMap, QueryMapTraining
from services.trainer.learning.ranker import Ranker
from services.trainer.learning.snapshot import Parts, Snapshot, fold

LIGHT, CROSS, QUERY_MAP = "light_ml", "cross_encoder", "embedding"


class Training(Protocol):
    """What is trained epoch by epoch."""

    def run_epoch(self, number: int) -> float:
        """Epoch `number`, from 0; returns the mean loss."""
        ...

    def modules(self) -> Trained:
        """What a checkpoint must hold."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found, on outcomes that the gate does not ask: the rest of the recipe."""

    light: LightTraining
    fit: Fit
    """Its ridges and its covariance are those of every other fit."""
    cross_epochs: int
    map_epochs: int


class Stages:
    """The stages of one run. Each finds in the journal how far it is."""

    def __init__(
        self,
        snapshot: Snapshot,
        parts: Parts,
        recipe: Recipe,
        seed: int,
        journal: Journal,
        *,
        prior: Prior | None = None,
        knows_people: bool = True,
    ) -> None:
        self._snapshot = snapshot
        self._parts = parts
        self._recipe = recipe
        self._seed = seed
        self._journal = journal
        self._prior = prior
        self._knows_people = knows_people

    def search(self) -> Found:
        """Finds variances and numbers of epochs by training on some outcomes for some others."""
        light, fit = self.search_light()
        return Found(light, fit, self.search_cross(light, fit), self.search_query_map(light))

    def learn_lone(self, found: Found) -> Ranker:
        """Learns from what the gate does not ask; if stopped, gives what the search has learned."""
        lone = self.learn("lone", self._parts.known, found)
        if lone is not None:
            return lone
        cross, rows = None, self._parts.training
        if found.cross_epochs:
            cross = self._cross(found.light, found.fit, rows)
            unpack_training(self._journal.stage("cross").tensors, cross.modules())
        return self._ranker(rows, found.light, found.fit, cross)

    def learn(self, name: str, rows: Tensor, found: Found) -> Ranker | None:
        """Learns from other outcomes with what was found; None if it is stopped before the end."""
        light = LightTraining(self._snapshot, rows, self._recipe.light, self._prior)
        stage = self._journal.stage(f"light_{name}")
        fit = _restore_fit(stage, found.fit)
        if not stage.done:
            if self._journal.stopping:
                return None
            fit = light.fit_under(found.fit)
            stage.tensors, stage.numbers = _pack_fit(fit)
            self._step(stage, None, fit.loss, None)
        if not found.cross_epochs:
            return self._ranker(rows, light, fit, None)
        cross = self._cross(light, fit, rows)
        if not self._train(f"cross_{name}", cross, found.cross_epochs):
            return None
        return self._ranker(rows, light, fit, cross)

    def learn_each(self, name: str, parts: list[Tensor], found: Found) -> list[Ranker] | None:
        """Learns from each of some parts of the outcomes; None if it is stopped before the end."""
        rankers: list[Ranker] = []
        for number, rows in enumerate(parts):
            ranker = self.learn(f"{name}_{number}", rows, found)
            if ranker is None:
                return None
            rankers.append(ranker)
        return rankers

    def train_query_map(self, ranker: Ranker, found: Found) -> QueryMap:
        """The query map after as many epochs as help; a stop keeps what the search has."""
        training = self._query_map(ranker.light, ranker.rows)
        if not self._train("query_map_final", training, found.map_epochs):
            unpack_training(self._journal.stage("query_map").tensors, training.modules())
        return training.model

    def search_light(self) -> tuple[LightTraining, Fit]:
        """Fits the linear stage and finds its variances."""
        recipe, stage, rows = self._recipe.light, self._journal.stage("light"), self._parts.training
        light = LightTraining(self._snapshot, rows, recipe, self._prior)
        fit = _restore_fit(stage, light.start())
        for number in range(stage.done, recipe.rounds):
            if stage.done and self._journal.stopping:
                break  # one round is the least that makes a model
            fit = light.run_round(fit, number)
            if number == recipe.rounds - 1:
                folds = fold(self._snapshot, rows, recipe.folds)
                fit = light.choose_variance(fit, folds)
            stage.tensors, stage.numbers = _pack_fit(fit)
            self._step(stage, LIGHT, fit.loss, self._measure_light(light, fit))
        return light, fit

    def search_cross(self, light: LightTraining, fit: Fit) -> int:
        """Returns how many epochs of the cross stage improve on the linear one."""
        held = hold_out(self._snapshot, light, fit, self._parts.training, self._parts.validation)
        training = self._cross(light, fit, self._parts.training)

        def check() -> Measure:
            measures: list[Measure] = []
            for part in held:
                states = light.states(part.effects)
                seekers = states[self._snapshot.seekers[part.rows]]
                candidates = states[self._snapshot.candidates[part.rows]]
                with torch.no_grad():
                    residual: Tensor = training.model(seekers, candidates)[:, 0]
                measures.append(measure(self._snapshot, part.rows, part.logits + residual))
            return join(measures)

        baseline = join([measure(self._snapshot, p.rows, p.logits) for p in held])
        epochs = self._recipe.cross.epochs
        return self._search("cross", training, check, baseline=baseline, epochs=epochs, curve=CROSS)

    def search_query_map(self, light: LightTraining) -> int:
        """Returns how many epochs of the query map improve on the identity."""
        rows = self._parts.validation
        training = self._query_map(light, self._parts.training)

        def check() -> Measure:
            measured = measure(self._snapshot, rows, training.cosines(rows))
            return Measure(measured.ndcg_at_10, measured.losses * 0)  # cosines are no logits

        epochs = self._recipe.query_map.epochs
        return self._search(
            "query_map", training, check, baseline=check(), epochs=epochs, curve=QUERY_MAP
        )

    def _ranker(
        self, rows: Tensor, light: LightTraining, fit: Fit, cross: CrossTraining | None
    ) -> Ranker:
        return Ranker.of(rows, light, fit, cross, knows_people=self._knows_people)

    def _cross(self, light: LightTraining, fit: Fit, rows: Tensor) -> CrossTraining:
        recipe = self._recipe.cross
        return CrossTraining(self._snapshot, light, fit, rows, recipe=recipe, seed=self._seed)

    def _query_map(self, light: LightTraining, rows: Tensor) -> QueryMapTraining:
        recipe = self._recipe.query_map
        return QueryMapTraining(
            self._snapshot,
            light.features,
            rows,
            recipe=recipe,
            seed=self._seed,
            prior=self._prior,
        )

    def _search(
        self,
        name: str,
        training: Training,
        check: Callable[[], Measure],
        *,
        baseline: Measure,
        epochs: int,
        curve: str,
    ) -> int:
        stage = self._journal.stage(name)
        stopping = EarlyStopping(baseline, self._recipe.patience)
        if stage.done:
            stopping.restore(stage.numbers)
            unpack_training(stage.tensors, training.modules())
        while not (stage.finished or self._journal.stopping) and stage.done < epochs:
            loss = training.run_epoch(stage.done)
            measured = check()
            stage.finished = not stopping.see(stage.done + 1, measured)
            stage.numbers = stopping.state()
            stage.tensors = pack_training(training.modules())
            self._step(stage, curve, loss, measured)
        return stopping.best_epoch

    def _train(self, name: str, training: Training, epochs: int) -> bool:
        """Trains for as long as the search was worth it; says whether it was not stopped before."""
        stage = self._journal.stage(name)
        if stage.done:
            unpack_training(stage.tensors, training.modules())
        while stage.done < epochs and not self._journal.stopping:
            loss = training.run_epoch(stage.done)
            stage.tensors = pack_training(training.modules())
            self._step(stage, None, loss, None)
        return stage.done >= epochs

    def _measure_light(self, light: LightTraining, fit: Fit) -> Measure:
        snapshot, parts = self._snapshot, self._parts
        held = hold_out(snapshot, light, fit, parts.training, parts.validation)
        return join([measure(snapshot, part.rows, part.logits) for part in held])

    def _step(self, stage: Stage, curve: str | None, loss: float, measured: Measure | None) -> None:
        point = None
        if curve is not None and measured is not None:
            ndcg = measured.ndcg_at_10
            mean = float(ndcg.mean()) if len(ndcg) else 0.0
            point = LossPoint(curve, self._journal.steps_done + 1, loss, mean)
        self._journal.step(stage, point)


def _pack_fit(fit: Fit) -> tuple[dict[str, Tensor], Numbers]:
    names = ("beta", "effects", "ridges", "covariance")
    tensors = {name: getattr(fit, name).clone() for name in names}
    return tensors, {"loss": fit.loss, "scale": fit.scale}


def _restore_fit(stage: Stage, start: Fit) -> Fit:
    if not stage.done:
        return start
    device = start.beta.device
    tensors = {name: tensor.to(device) for name, tensor in stage.tensors.items()}
    numbers = stage.numbers
    return Fit(**tensors, scale=numbers["scale"], loss=numbers["loss"])
