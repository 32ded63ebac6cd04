"""A run from snapshot to head, top to bottom: the recipe carried out."""

import dataclasses

import torch

from services.trainer.core.ports import HeadFiles, LearnedHead
from services.trainer.core.recipe import DEFAULT_RECIPE, Recipe
from services.trainer.core.watch import Phase, Watch
from services.trainer.learning.gate_scores import gate_folds, join, score_fold
from services.trainer.learning.head import CrossPart, Head
from services.trainer.learning.journal import Journal
from services.trainer.learning.onnx_head import OnnxHead
from services.trainer.learning.package import package_head
from services.trainer.learning.snapshot import read_snapshot, split_outcomes
from services.trainer.learning.stages import LIGHT, Stages


class TorchLearner:
    """Learns heads on a device: "cpu", "cuda", or "auto" for a GPU if there is one."""

    def __init__(self, device: str, recipe: Recipe = DEFAULT_RECIPE) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        self._recipe = recipe
        torch.set_num_threads(recipe.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)

    def learn(
        self,
        snapshot: bytes,
        incumbent: HeadFiles | None,
        checkpoint: bytes | None,
        seed: int,
        watch: Watch,
    ) -> LearnedHead:
        """Learns a head and measures it against the incumbent."""
        recipe = self._recipe
        arrays = read_snapshot(snapshot).to(self._device)
        parts = split_outcomes(arrays, recipe.split)
        steps = 2 * (recipe.light.rounds + recipe.cross.epochs + recipe.query_map.epochs)
        journal = Journal(checkpoint, watch, steps)
        stages = Stages(arrays, parts, recipe, seed, journal)

        watch.enter(Phase.RUNNING)
        light, fit = stages.fit_light("light", parts.training, LIGHT)
        cross_epochs = stages.search_cross(light, fit)
        map_epochs = stages.search_query_map(light)
        known = torch.cat([parts.training, parts.validation])
        light, fit = stages.refit_light(light, fit, known)
        cross = stages.train_cross(light, fit, known, cross_epochs)
        query_map = stages.train_query_map(light, known, map_epochs)

        watch.enter(Phase.EVALUATING)
        watch.step(journal.steps_done, journal.steps_done)  # the rest was stopped early
        person, linear = light.models(fit)
        pairs = CrossPart(linear, None if cross is None else cross.model)
        head = Head(query_map.model, person, linear, pairs)
        in_use = None if incumbent is None else OnnxHead(incumbent)
        evaluations = []
        for fold in gate_folds(arrays, parts, recipe.gate_folds, recipe.evaluation_outcomes_max):
            table = light.table(fit, person, fold.history)
            evaluations.append(score_fold(arrays, fold, table, head, incumbent=in_use))
            watch.check()

        watch.enter(Phase.EXPORTING)
        everything = torch.cat([known, parts.gate])
        table = light.table(fit, person, everything)
        files, golden = package_head(arrays, everything, table, head)
        return LearnedHead(
            files=files,
            golden=golden,
            recipe={
                **dataclasses.asdict(recipe),
                "seed": seed,
                "device": self._device.type,
                **({"stopped_after_steps": journal.steps_done} if journal.stopping else {}),
            },
            rule_version=arrays.rule_version,
            evaluation=join(evaluations),
        )
