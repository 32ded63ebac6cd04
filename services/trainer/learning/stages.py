"""The stages of a run: each a loop that can be left and taken up again after any step."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from services.trainer.core.recipe import Recipe
from services.trainer.core.watch import LossPoint
from services.trainer.learning.cross import CrossTraining
from services.trainer.learning.evaluate import EarlyStopping, Measure, hold_out, join, measure
from services.trainer.learning.journal import (
    Journal,
    Stage,
    Trained,
    pack_training,
    unpack_training,
)
from services.trainer.learning.light import LightTraining
from services.trainer.learning.mixed_model import Fit
from services.trainer.learning.query_map import QueryMapTraining
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


class Stages:
    """The stages of one run. Each finds in the journal how far it is."""

    def __init__(
        self, snapshot: Snapshot, parts: Parts, recipe: Recipe, seed: int, journal: Journal
    ) -> None:
        self._snapshot = snapshot
        self._parts = parts
        self._recipe = recipe
        self._seed = seed
        self._journal = journal

    def fit_light(self, name: str, rows: Tensor, curve: str | None) -> tuple[LightTraining, Fit]:
        """Fits the linear stage; `curve` names it on the loss curve."""
        recipe, stage = self._recipe.light, self._journal.stage(name)
        light = LightTraining(self._snapshot, rows, recipe)
        fit = _restore_fit(stage, light.start())
        for number in range(stage.done, recipe.rounds):
            if stage.done and self._journal.stopping:
                break  # one round is the least that makes a model
            fit = light.run_round(fit, number)
            if number == recipe.rounds - 1:
                folds = fold(self._snapshot, rows, recipe.folds)
                fit = light.choose_variance(fit, folds)
            stage.tensors, stage.numbers = _pack_fit(fit), {"loss": fit.loss}
            measured = self._measure_light(light, fit) if curve else None
            self._step(stage, curve, fit.loss, measured)
        return light, fit

    def refit_light(
        self, light: LightTraining, fit: Fit, rows: Tensor
    ) -> tuple[LightTraining, Fit]:
        """Fits the linear stage to more rows; a run that stops before the end keeps what it has."""
        if self._journal.stopping:
            return light, fit
        refitted = self.fit_light("light_final", rows, None)
        whole = self._journal.stage("light_final").done == self._recipe.light.rounds
        return refitted if whole else (light, fit)

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

    def train_cross(
        self, light: LightTraining, fit: Fit, rows: Tensor, epochs: int
    ) -> CrossTraining | None:
        """The cross stage after so many epochs; None if it does not help."""
        if not epochs:
            return None
        training = self._cross(light, fit, rows)
        self._train("cross", training, epochs)
        return training

    def train_query_map(self, light: LightTraining, rows: Tensor, epochs: int) -> QueryMapTraining:
        """The query map after so many epochs; the identity after none."""
        training = self._query_map(light, rows)
        self._train("query_map", training, epochs)
        return training

    def _cross(self, light: LightTraining, fit: Fit, rows: Tensor) -> CrossTraining:
        recipe = self._recipe.cross
        return CrossTraining(self._snapshot, light, fit, rows, recipe=recipe, seed=self._seed)

    def _query_map(self, light: LightTraining, rows: Tensor) -> QueryMapTraining:
        recipe = self._recipe.query_map
        return QueryMapTraining(self._snapshot, light.features, rows, recipe, self._seed)

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

    def _train(self, name: str, training: Training, epochs: int) -> None:
        """Trains anew for as long as the search was worth it; a stop keeps what the search has."""
        stage, searched = self._journal.stage(f"{name}_final"), self._journal.stage(name)
        if stage.done:
            unpack_training(stage.tensors, training.modules())
        while stage.done < epochs and not self._journal.stopping:
            loss = training.run_epoch(stage.done)
            stage.tensors = pack_training(training.modules())
            self._step(stage, None, loss, None)
        if stage.done < epochs:
            unpack_training(searched.tensors, training.modules())

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


def _pack_fit(fit: Fit) -> dict[str, Tensor]:
    names = ("beta", "effects", "ridges", "covariance")
    return {name: getattr(fit, name) for name in names}


def _restore_fit(stage: Stage, start: Fit) -> Fit:
    if not stage.done:
        return start
    device = start.beta.device
    tensors = {name: tensor.to(device) for name, tensor in stage.tensors.items()}
    return Fit(**tensors, loss=stage.numbers["loss"])
