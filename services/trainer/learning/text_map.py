"""The query map of a model made from files: where in the encoder's space what a text asks for lies.

    q = u + 5 (u - mean) A B + c, normalised;  u = the base model's q, or the encoder's vector

It is the query map of heads without columns, on top of the base: it starts as the base (B = 0).

Triplets and chats are learned by a softmax of the positive over its explicit negatives and the
positives of other lines. Preferences are learned by DPO (Rafailov et al. 2023): an item is chosen
with a probability that grows with exp(cosine / temperature), the base model is the reference, and
the normaliser falls out because both items are of one anchor.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.trainer.core.recipe import FileRecipe
from services.trainer.learning.file_arrays import FileArrays, Group
from services.trainer.learning.journal import Trained
from services.trainer.learning.query_map import CONTRAST, EXCLUDED, LENGTH_MIN


class TextMap(nn.Module):
    """Vectors of the base to unit vectors in the encoder's space."""

    mean: Tensor

    def __init__(self, mean_d: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("mean", mean_d)
        dim = len(mean_d)
        self.down = nn.Parameter(torch.randn(dim, rank, generator=generator) / dim**0.5)
        self.up = nn.Parameter(torch.zeros(rank, dim))
        self.offset = nn.Parameter(torch.zeros(dim))

    def forward(self, vectors_nd: Tensor) -> Tensor:
        """Returns queries [n, d] of length 1."""
        contrast = (vectors_nd - self.mean) * CONTRAST
        mapped = vectors_nd + torch.matmul(torch.matmul(contrast, self.down), self.up)
        mapped = mapped + self.offset
        length = torch.sqrt(torch.sum(mapped * mapped, 1, keepdim=True))
        return mapped / torch.clamp(length, LENGTH_MIN, math.inf)


class TextMapTraining:
    """Training the map, epoch by epoch."""

    def __init__(
        self,
        arrays: FileArrays,
        sources: Tensor,
        recipe: FileRecipe,
        *,
        beta: float,
        seed: int,
    ) -> None:
        """`sources` [U, d] are the items' vectors as the base maps them."""
        self._arrays = arrays
        self._sources = sources
        self._recipe = recipe
        self._beta = beta
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        mean = sources[arrays.training.anchors.unique()].mean(0).cpu()
        self.model = TextMap(mean, recipe.rank, generator).to(sources.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._share = 1.0 if arrays.method == "supervised" else recipe.in_batch_share
        drawn = torch.bincount(arrays.training.positives, minlength=len(arrays.vectors)).double()
        chances = (drawn + 1) / (drawn + 1).sum()
        self._log_chances = chances.log().float()

    @property
    def steps_count(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self._arrays.training.size / self._recipe.batch)

    def run_epoch(self, number: int, tick: Callable[[int], None]) -> float:
        """Epoch `number`, from 0; `tick` hears of each step. Returns the mean loss."""
        group = self._arrays.training
        # The order of an epoch depends on its number alone: a resumed run goes on as it would have.
        generator = torch.Generator().manual_seed(self._seed * 1_000 + number)
        order = torch.randperm(group.size, generator=generator).to(self._sources.device)
        total = torch.zeros((), device=self._sources.device)
        for step, places in enumerate(order.split(self._recipe.batch)):
            loss = self._loss(group, places)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(places)
            tick(number * self.steps_count + step + 1)
        return float(total / group.size)

    def held_out_loss(self) -> float | None:
        """Mean loss on the held-out lines; None without any."""
        group = self._arrays.held_out
        if not group.size:
            return None
        places = torch.arange(group.size, device=self._sources.device)
        with torch.no_grad():
            losses = [
                self._loss(group, part) * len(part) for part in places.split(self._recipe.batch)
            ]
        return float(torch.stack(losses).sum() / group.size)

    def cosines(self, anchors: Tensor, items: Tensor) -> Tensor:
        """Cosines [n] of mapped anchors and items."""
        with torch.no_grad():
            queries: Tensor = self.model(self._sources[anchors])
        return (queries * self._arrays.vectors[items]).sum(1)

    def modules(self) -> Trained:
        """What a checkpoint must hold."""
        return [(self.model, self.optimizer)]

    def _loss(self, group: Group, places: Tensor) -> Tensor:
        if self._arrays.method == "dpo":
            return self._preference_loss(group, places)
        return self._softmax_loss(group, places)

    def _softmax_loss(self, group: Group, places: Tensor) -> Tensor:
        recipe, vectors = self._recipe, self._arrays.vectors
        anchors, items = group.anchors[places], group.positives[places]
        queries, theirs = self.model(self._sources[anchors]), vectors[items]
        positive = (queries * theirs).sum(1, keepdim=True)
        explicit = torch.einsum("pd,pkd->pk", queries, vectors[group.negatives[places]])
        explicit = (explicit / recipe.temperature).masked_fill(group.absent[places], EXCLUDED)
        in_batch = queries @ theirs.T / recipe.temperature
        chances = self._log_chances[items]
        in_batch = in_batch - chances + chances.mean() + math.log(self._share)
        same = (items[:, None] == items) | (anchors[:, None] == anchors)
        in_batch = in_batch.masked_fill(same, EXCLUDED)
        logits = torch.cat([positive / recipe.temperature, explicit, in_batch], dim=1)
        losses = -functional.log_softmax(logits, dim=1)[:, 0]
        weights = group.row_weights[places]
        return (losses * weights).sum() / weights.sum()

    def _preference_loss(self, group: Group, places: Tensor) -> Tensor:
        vectors = self._arrays.vectors
        sources = self._sources[group.anchors[places]]
        gaps = vectors[group.positives[places]][:, None] - vectors[group.negatives[places]]
        moved = torch.einsum("pd,pkd->pk", self.model(sources) - sources, gaps)
        losses = -functional.logsigmoid(self._beta * moved / self._recipe.temperature)
        weights = group.weights[places].masked_fill(group.absent[places], 0.0)
        return (losses * weights).sum() / weights.sum()
