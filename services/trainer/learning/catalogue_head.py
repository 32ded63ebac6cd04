"""The head of a domain where hardly anybody says no: vectors of candidates, nothing else moves.

The head in use is measured by vectors fitted anew: as it was decided then, to those known choices
that it was made from. Its own vectors know what the gate asks for.
"""

import dataclasses

import torch
from safetensors.torch import load, save
from torch import Tensor

from services.trainer.core.ports import Evaluation, HeadFiles, LearnedHead
from services.trainer.core.recipe import FactorsRecipe, Recipe
from services.trainer.core.watch import Phase, Watch
from services.trainer.learning.catalogue import (
    Choices,
    Search,
    Settings,
    split_choices,
    with_negatives,
)
from services.trainer.learning.factors import (
    Histories,
    Recency,
    Vectors,
    fit_content,
    fit_vectors,
    make_queries,
    mean_query,
    read_histories,
    score_pairs,
)
from services.trainer.learning.features import Features
from services.trainer.learning.gate_scores import Answer, Evidence, Fold, Incumbent
from services.trainer.learning.head import CrossPart, Head
from services.trainer.learning.journal import Journal
from services.trainer.learning.light import EFFECTS, LightModel, PersonModel
from services.trainer.learning.onnx_head import Floats, open_twins
from services.trainer.learning.package import package_head
from services.trainer.learning.query_map import QueryMap
from services.trainer.learning.snapshot import Snapshot

GOLDEN_HISTORY = 16
GOLDEN_AFFINITIES = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Fitted:
    """Vectors, what they were fitted to, and all that a query needs."""

    settings: Settings
    histories: Histories
    vectors: Vectors
    content: Tensor
    queries: Tensor
    """[U, k]"""

    @classmethod
    def to(
        cls,
        snapshot: Snapshot,
        rows: Tensor,
        recipe: FactorsRecipe,
        settings: Settings,
        seed: int,
    ) -> "Fitted":
        """Fits vectors to some choices, as they are stored."""
        histories = read_histories(snapshot, rows)
        plain = fit_vectors(histories, recipe, settings.ridge, seed)
        vectors = plain.rounded(settings.slope)
        content = fit_content(snapshot, vectors)
        queries = make_queries(vectors, histories, settings.recency, snapshot.users_count)
        return cls(settings, histories, vectors, content, queries)

    def chances(self, snapshot: Snapshot, rows: Tensor) -> Floats:
        """Probabilities of some outcomes [rows]."""
        pairs = (snapshot.seekers[rows], snapshot.candidates[rows])
        found = score_pairs(snapshot, self.vectors, self.content, self.queries, pairs)
        chances: Floats = torch.sigmoid(found + self.settings.intercept).cpu().numpy()
        return chances

    def pack(self, snapshot: Snapshot) -> tuple[bytes, dict[str, Tensor]]:
        """The vectors as a file, and what serving must find with them."""
        settings, vectors = self.settings, self.vectors
        asked = torch.zeros(snapshot.users_count, dtype=torch.bool)
        asked[self.histories.seekers.cpu()] = True
        recency = torch.tensor([settings.recency.floor, settings.recency.places])
        tensors = {
            "people": vectors.people.int(),
            "history": vectors.history.half(),
            "candidates": vectors.candidates.half(),
            "newcomer": mean_query(self.queries.cpu(), asked),
            "content": self.content.half(),
            "recency": recency,
            "settings": torch.tensor([settings.ridge, settings.slope, settings.intercept]),
            "until": snapshot.times[self.histories.rows].max()[None],
        }
        own = self.histories.seekers == self.histories.seekers[0]
        history = self.histories.places[own][-GOLDEN_HISTORY:]
        weights = settings.recency.weights(torch.arange(len(history)).flip(0))
        query = weights @ vectors.history.cpu()[history.cpu()]
        golden = {
            "history": vectors.people[history].int(),
            "factor_query": query,
            "affinities": vectors.candidates.cpu()[:GOLDEN_AFFINITIES] @ query,
        }
        return save({name: t.cpu().contiguous() for name, t in tensors.items()}), golden


def learn_catalogue(
    snapshot: Snapshot,
    incumbent: HeadFiles | None,
    checkpoint: bytes | None,
    recipe: Recipe,
    *,
    seed: int,
    watch: Watch,
) -> LearnedHead:
    """Learns a head and measures it against the incumbent; None is the encoder alone."""
    factors = recipe.factors
    journal = Journal(checkpoint, watch, len(factors.ridges), recipe)
    choices = split_choices(snapshot, 1 - recipe.split.training - recipe.split.validation)

    watch.enter(Phase.RUNNING)
    settings = Search(snapshot, choices.known, recipe, seed, journal).run()

    watch.enter(Phase.EVALUATING)
    watch.step(journal.steps_done, journal.steps_done)  # ridges that need no trial
    judged = Fitted.to(snapshot, choices.known, factors, settings, seed)
    watch.check()
    evaluation = _judge(snapshot, choices, judged, recipe, seed, incumbent=incumbent)

    watch.enter(Phase.EXPORTING)
    every = torch.cat([choices.known, choices.gate])
    table = torch.zeros(snapshot.users_count, EFFECTS)
    head = _standing_still(snapshot, settings.intercept)
    files, golden = package_head(snapshot, every, table, head, ())
    packed, more = Fitted.to(snapshot, every, factors, settings, seed).pack(snapshot)
    return LearnedHead(
        files=dataclasses.replace(files, factors=packed),
        golden=save({**load(golden), **more}),
        recipe={
            **dataclasses.asdict(recipe),
            "seed": seed,
            "device": snapshot.vectors.device.type,
            "decided": {
                "ridge": settings.ridge,
                "recency": dataclasses.astuple(settings.recency),
            },
            **({"stopped_after_steps": journal.steps_done} if journal.stopping else {}),
        },
        rule_version=snapshot.rule_version,
        outcomes_count=len(every),
        twins_agreement=1.0,
        evaluation=evaluation,
    )


def _judge(
    snapshot: Snapshot,
    choices: Choices,
    judged: Fitted,
    recipe: Recipe,
    seed: int,
    *,
    incumbent: HeadFiles | None,
) -> Evaluation:
    """Scores of the gate's choices and of negatives drawn for them, by both heads."""
    drawn = recipe.factors.negatives
    gate = choices.gate[: recipe.evaluation_outcomes_max // (drawn + 1)]
    extended, rows = with_negatives(snapshot, gate, drawn, seed + 1)
    evidence = Evidence(extended, Fold(rows, choices.known, rows[:0]))
    theirs = evidence.asked.cosines[:, 0].cpu().numpy()
    if incumbent is not None and incumbent.factors:
        read, settings = _read_incumbent(snapshot, choices.known, incumbent)
        before = Fitted.to(snapshot, read, recipe.factors, settings, seed)
        theirs = before.chances(extended, rows)
    elif incumbent is not None:
        table = torch.zeros(snapshot.users_count, EFFECTS)
        nothing = Answer(table, torch.zeros(len(rows)), torch.zeros(0))
        theirs = Incumbent(extended, open_twins(incumbent)).score(evidence, nothing)
    return Evaluation(
        seekers=evidence.asked.seekers.int().cpu().numpy(),
        levels=evidence.levels.int().cpu().numpy(),
        challenger_scores=judged.chances(extended, rows),
        incumbent_scores=theirs,
        incumbent_calibrated=incumbent is not None,
    )


def _read_incumbent(
    snapshot: Snapshot, known: Tensor, incumbent: HeadFiles
) -> tuple[Tensor, Settings]:
    """What the head in use was made from, without what the gate asks for, and how."""
    arrays = load(incumbent.factors)
    ridge, slope, intercept = arrays["settings"].tolist()
    settings = Settings(ridge, Recency(*arrays["recency"].tolist()), slope, intercept)
    read = known[snapshot.times[known] <= arrays["until"].to(known.device)]
    return read if len(read) else known, settings


def _standing_still(snapshot: Snapshot, intercept: float) -> Head:
    """Parts that say the same of everyone; the query map is the identity."""
    people = torch.cat([snapshot.seekers, snapshot.candidates]).unique()
    features = Features(snapshot.fields, snapshot.columns[people].cpu())
    state = torch.zeros(features.width + EFFECTS, 1)
    compared = torch.zeros(len(features.blocks()[1]), 1)
    light = LightModel(features, state, state, compared, torch.full((1, 1), intercept))
    person = PersonModel(features, torch.zeros(features.width, EFFECTS), torch.eye(EFFECTS))
    mean = snapshot.vectors[people].mean(0).cpu()
    query_map = QueryMap(features, mean, 1, torch.Generator().manual_seed(0))
    device = snapshot.vectors.device
    return Head(
        query_map.to(device), person.to(device), light.to(device), CrossPart(light, None).to(device)
    )
