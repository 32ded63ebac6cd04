"""A run from snapshot to head, top to bottom: the recipe carried out."""

import dataclasses

import torch

from services.trainer.core.ports import HeadFiles, LearnedHead
from services.trainer.core.recipe import DEFAULT_RECIPE, Recipe
from services.trainer.core.watch import Phase, Watch
from services.trainer.learning.catalogue import is_catalogue
from services.trainer.learning.catalogue_head import learn_catalogue
from services.trainer.learning.gate_scores import Evidence, Incumbent, gate_folds
from services.trainer.learning.head import Head
from services.trainer.learning.journal import Journal
from services.trainer.learning.judged import settle
from services.trainer.learning.onnx_head import open_twins
from services.trainer.learning.package import package_head
from services.trainer.learning.page_scores import gate_slots
from services.trainer.learning.snapshot import read_snapshot, split_outcomes
from services.trainer.learning.stages import Stages


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
        if is_catalogue(arrays):
            return learn_catalogue(arrays, incumbent, checkpoint, recipe, seed=seed, watch=watch)
        few = len(arrays.seekers) <= recipe.twins_outcomes_max
        parts = split_outcomes(arrays, recipe.split if few else recipe.split_of_many)
        slots = gate_slots(arrays, parts, recipe.evaluation_slots_max)
        most = recipe.evaluation_outcomes_max
        folds = gate_folds(arrays, parts, recipe.gate_folds, most, slots)
        known = [fold.history for fold in folds] if few else [parts.known]
        journal = Journal(checkpoint, watch, _steps_count(recipe, len(known)))
        stages = Stages(arrays, parts, recipe, seed, journal)

        watch.enter(Phase.RUNNING)
        found = stages.search()
        evidence = [Evidence(arrays, fold) for fold in folds]
        judged = settle(
            stages,
            found,
            evidence,
            everything=parts.all,
            known=known,
            agreement_min=recipe.agreement_min,
        )
        query_map = stages.train_query_map(judged.ranker, found)

        watch.enter(Phase.EVALUATING)
        watch.step(journal.steps_done, journal.steps_done)  # the rest was stopped early
        in_use = None if incumbent is None else Incumbent(arrays, open_twins(incumbent))
        evaluation = judged.evaluate(arrays, in_use)
        watch.check()

        watch.enter(Phase.EXPORTING)
        ranker = judged.ranker
        head = Head(query_map, ranker.person, ranker.linear, ranker.cross)
        table = ranker.table(parts.all)
        files, golden = package_head(arrays, parts.all, table, head, judged.twins)
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
            outcomes_count=len(ranker.rows),
            twins_agreement=judged.agreement,
            evaluation=evaluation,
        )


def _steps_count(recipe: Recipe, twins: int) -> int:
    """At most so many steps: of the search, of the head and of its twins."""
    search = recipe.light.rounds + recipe.cross.epochs + recipe.query_map.epochs
    return search + recipe.query_map.epochs + (1 + twins) * (1 + recipe.cross.epochs)
