"""The query map: where in the candidates' frozen space a seeker's taste lies.

    q = v + [5 (v - mean), x] A B + c, normalised

It starts as the identity (B = 0), which is the general tier, or as the domain head's. Trained with
a softmax over the explicit negatives of the triplets and the candidates of the other triplets of
the batch, the latter corrected for how often they come up (Bengio and Senécal 2008; Yi et al.
2019).

Shapes: p positive outcomes, k explicit negatives of each, d dim, f features of a person.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.trainer.core.recipe import QueryMapRecipe
from services.trainer.learning.features import Features
from services.trainer.learning.journal import Trained
from services.trainer.learning.prior import Prior
from services.trainer.learning.snapshot import Snapshot, triplets_within

CONTRAST = 5.0
"""Texts of one domain resemble each other: what sets a person apart is enlarged."""
EXCLUDED = -1e9
LENGTH_MIN = 1e-12


class QueryMap(nn.Module):
    """Seekers' vectors and columns to unit vectors in the candidates' space."""

    mean: Tensor

    def __init__(
        self, features: Features, mean_d: Tensor, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", mean_d)
        inputs = len(mean_d) + features.width
        self.down = nn.Parameter(torch.randn(inputs, rank, generator=generator) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(rank, len(mean_d)))
        self.offset = nn.Parameter(torch.zeros(len(mean_d)))

    def forward(self, columns_nc: Tensor, vectors_nd: Tensor) -> Tensor:
        """Returns queries [n, d] of length 1; zeros for a person without a vector and a map."""
        described = self.features.describe(columns_nc)
        contrast = (vectors_nd - self.mean) * CONTRAST
        inputs = torch.cat([contrast, described], 1)
        mapped = vectors_nd + torch.matmul(torch.matmul(inputs, self.down), self.up)
        mapped = mapped + self.offset
        length = torch.sqrt(torch.sum(mapped * mapped, 1, keepdim=True))
        return mapped / torch.clamp(length, LENGTH_MIN, math.inf)


class QueryMapTraining:
    """Training the map on some outcomes, epoch by epoch."""

    def __init__(
        self,
        snapshot: Snapshot,
        features: Features,
        rows: Tensor,
        *,
        recipe: QueryMapRecipe,
        seed: int,
        prior: Prior | None,
    ) -> None:
        self._snapshot = snapshot
        self._recipe = recipe
        self._seed = seed
        people = torch.cat([snapshot.seekers[rows], snapshot.candidates[rows]]).unique()
        generator = torch.Generator().manual_seed(seed)
        mean = snapshot.vectors[people].mean(0).cpu()
        self.model = QueryMap(features, mean, recipe.rank, generator).to(rows.device)
        if prior is not None:
            self._start_from(prior, features)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        # The slope of a length is not defined at 0: who has no vector has nothing to be mapped yet.
        known = rows[snapshot.vectors[snapshot.seekers[rows]].any(1)]
        self._positives, self._negatives, self._absent = _group(snapshot, known)
        drawn = torch.bincount(
            snapshot.candidates[self._positives], minlength=snapshot.users_count
        ).double()
        chances = (drawn + 1) / (drawn + 1).sum()
        self._log_chances = chances.log().float()

    def _start_from(self, prior: Prior, features: Features) -> None:
        model = self.model
        described = features.describe(prior.strangers.columns)
        known = prior.query_map(described, model.mean, CONTRAST)
        for name, value in known.items():
            setattr(model, name, nn.Parameter(value))

    def run_epoch(self, number: int) -> float:
        """Epoch `number`, from 0; returns the mean loss."""
        # The order of an epoch depends on its number alone: a resumed run goes on as it would have.
        generator = torch.Generator().manual_seed(self._seed * 1_000 + number)
        order = torch.randperm(len(self._positives), generator=generator)
        total = torch.zeros((), device=self._positives.device)
        # Nothing is split into one empty batch, of which there is no mean.
        for places in order.split(self._recipe.batch) if len(order) else ():
            loss = self._loss(places)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(places)
        return float(total / max(len(order), 1))

    def cosines(self, rows: Tensor) -> Tensor:
        """Cosines [rows] of mapped seekers and candidates."""
        snapshot = self._snapshot
        seekers, candidates = snapshot.seekers[rows], snapshot.candidates[rows]
        with torch.no_grad():
            queries = self.model(snapshot.columns[seekers], snapshot.vectors[seekers])
        cosines: Tensor = (queries * snapshot.vectors[candidates]).sum(1)
        return cosines

    def modules(self) -> Trained:
        """What a checkpoint must hold."""
        return [(self.model, self.optimizer)]

    def _loss(self, places: Tensor) -> Tensor:
        snapshot, recipe = self._snapshot, self._recipe
        positives = self._positives[places]
        seekers, candidates = snapshot.seekers[positives], snapshot.candidates[positives]
        queries_pd = self.model(snapshot.columns[seekers], snapshot.vectors[seekers])
        theirs_pd = snapshot.vectors[candidates]
        negatives_pkd = snapshot.vectors[snapshot.candidates[self._negatives[places]]]
        positive = (queries_pd * theirs_pd).sum(1, keepdim=True)
        explicit = torch.einsum("pd,pkd->pk", queries_pd, negatives_pkd)
        explicit = explicit.masked_fill(self._absent[places], EXCLUDED)
        in_batch = queries_pd @ theirs_pd.T / recipe.temperature
        chances = self._log_chances[candidates]
        in_batch = in_batch - chances + chances.mean() + math.log(recipe.in_batch_share)
        in_batch = in_batch.masked_fill(candidates[:, None] == candidates, EXCLUDED)
        logits = torch.cat(
            [positive / recipe.temperature, explicit / recipe.temperature, in_batch], dim=1
        )
        loss: Tensor = -functional.log_softmax(logits, dim=1)[:, 0].mean()
        return loss


def _group(snapshot: Snapshot, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Triplets by their positive: outcomes [p], negatives [p, k], and which of those are none."""
    inside = snapshot.triplets[triplets_within(snapshot, rows)]
    positives, group, counts = inside[:, 1].unique(return_inverse=True, return_counts=True)
    # The triplets of a snapshot are sorted by their positive, so those of one stand together.
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(inside), device=rows.device) - starts[group]
    width = int(counts.max()) if len(counts) else 1
    negatives = torch.zeros(len(positives), width, dtype=torch.int64, device=rows.device)
    absent = torch.ones(len(positives), width, dtype=torch.bool, device=rows.device)
    negatives[group, place] = inside[:, 2]
    absent[group, place] = False
    return positives, negatives, absent
