"""A run from snapshot to head, top to bottom: the recipe carried out."""

import dataclasses

import torch

from services.chassis.crashpoint import crashpoint
from services.trainer.core.ports import Evaluation, HeadFiles, LearnedHead
from services.trainer.core.recipe import DEFAULT_RECIPE, Recipe
from services.trainer.core.watch import Phase, Watch
from services.trainer.learning.catalogue import is_catalogue
from services.trainer.learning.catalogue_head import learn_catalogue
from services.trainer.learning.gate_scores import Evidence, Incumbent, gate_folds
from services.trainer.learning.head import Head
from services.trainer.learning.journal import Journal
from services.trainer.learning.judged import Judged, settle
from services.trainer.learning.onnx_head import open_twins
from services.trainer.learning.package import package_head
from services.trainer.learning.page_scores import gate_slots
from services.trainer.learning.prior import Prior
from services.trainer.learning.query_map import QueryMap
from services.trainer.learning.snapshot import Parts, Snapshot, read_snapshot, split_outcomes
from services.trainer.learning.stages import Stages


class TorchLearner:
    """Learns heads on a device: "cpu", "cuda", or "auto" for a GPU if there is one."""

    def __init__(self, device: str, recipe: Recipe = DEFAULT_RECIPE) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        self._recipe = recipe
        torch.set_num_threads(recipe.threads)
        torch.set_deterministic_debug_mode("warn")

    def learn(
        self,
        snapshot: bytes,
        incumbent: HeadFiles | None,
        checkpoint: bytes | None,
        seed: int,
        watch: Watch,
        *,
        prior: HeadFiles | None = None,
        knows_people: bool = True,
    ) -> LearnedHead:
        """Learns a head and measures it against the incumbent."""
        arrays = read_snapshot(snapshot).to(self._device)
        unfit = incumbent is not None and not _fits(arrays, incumbent)
        incumbent = None if unfit else incumbent
        if is_catalogue(arrays) and knows_people:
            recipe = self._recipe
            learned = learn_catalogue(arrays, incumbent, checkpoint, recipe, seed=seed, watch=watch)
            return _mark(learned, unfit=unfit)
        begun = None if prior is None or not _fits(arrays, prior) else Prior(prior, arrays)
        training = self.train(
            arrays, checkpoint, seed, watch, prior=begun, knows_people=knows_people
        )

        watch.enter(Phase.EVALUATING)
        done = training.journal.steps_done
        watch.step(done, done)  # the rest was stopped early
        crashpoint("trainer.head.learned")
        evaluation = training.evaluate(incumbent)
        watch.check()
        crashpoint("trainer.head.evaluated")

        watch.enter(Phase.EXPORTING)
        files, golden = training.package()
        crashpoint("trainer.head.exported")
        stopped = {"stopped_after_steps": done} if training.journal.stopping else {}
        device = {"seed": seed, "device": self._device.type}
        learned = LearnedHead(
            files=files,
            golden=golden,
            recipe={**dataclasses.asdict(self._recipe), **device, **stopped},
            rule_version=arrays.rule_version,
            outcomes_count=len(training.judged.ranker.rows),
            twins_agreement=training.judged.agreement,
            evaluation=evaluation,
        )
        return _mark(learned, unfit=unfit)

    def train(
        self,
        arrays: Snapshot,
        checkpoint: bytes | None,
        seed: int,
        watch: Watch,
        *,
        prior: Prior | None = None,
        knows_people: bool = True,
    ) -> "Training":
        """Learns a head and what the gate asks in its stead."""
        recipe = self._recipe
        few = len(arrays.seekers) <= recipe.twins_outcomes_max
        parts = split_outcomes(arrays, recipe.split if few else recipe.split_of_many)
        slots = gate_slots(arrays, parts, recipe.evaluation_slots_max)
        most = recipe.evaluation_outcomes_max
        folds = gate_folds(arrays, parts, recipe.gate_folds, most, slots)
        known = [fold.history for fold in folds] if few else [parts.known]
        journal = Journal(checkpoint, watch, _steps_count(recipe, len(known)), recipe)
        stages = Stages(
            arrays, parts, recipe, seed, journal, prior=prior, knows_people=knows_people
        )

        watch.enter(Phase.RUNNING)
        found = stages.search()
        judged = settle(
            stages,
            found,
            [Evidence(arrays, fold) for fold in folds],
            everything=parts.all,
            known=known,
            agreement_min=recipe.agreement_min,
        )
        query_map = stages.train_query_map(judged.ranker, found)
        return Training(arrays, parts, journal, judged, query_map)


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """What was learned, before it is measured and exported."""

    arrays: Snapshot
    parts: Parts
    journal: Journal
    judged: Judged
    query_map: QueryMap

    def evaluate(self, incumbent: HeadFiles | None) -> Evaluation:
        """Scores for the gate; no incumbent is the encoder alone."""
        if incumbent is None:
            return self.judged.evaluate(self.arrays, None)
        in_use = Incumbent(self.arrays, open_twins(incumbent))
        return self.judged.evaluate(self.arrays, in_use)

    def package(self) -> tuple[HeadFiles, bytes]:
        """The head's files and its golden vectors; what it knows of people is from everything."""
        ranker, everything = self.judged.ranker, self.parts.all
        head = Head(self.query_map, ranker.person, ranker.linear, ranker.cross)
        table = ranker.table(everything)
        return package_head(
            self.arrays,
            everything,
            table,
            head,
            self.judged.twins,
            knows_people=ranker.knows_people,
        )


def _mark(head: LearnedHead, *, unfit: bool) -> LearnedHead:
    evaluation = dataclasses.replace(head.evaluation, incumbent_unfit=unfit)
    return dataclasses.replace(head, evaluation=evaluation)


def _fits(snapshot: Snapshot, head: HeadFiles) -> bool:
    return snapshot.fits(head.columns, head.encoder, head.dim)


def _steps_count(recipe: Recipe, twins: int) -> int:
    """At most so many steps: of the search, of the head and of its twins."""
    search = recipe.light.rounds + recipe.cross.epochs + recipe.query_map.epochs
    return search + recipe.query_map.epochs + (1 + twins) * (1 + recipe.cross.epochs)
