"""The cross stage: what the linear stage cannot say about a pair, as a residual on its logit.

A small network over both people's states, and a low-rank form that pairs every feature of the one
with every feature of the other (a factorisation machine between two people, Rendle 2010). It starts
at zero: a head without it is the linear stage.

Trained on a clean cut between history and label: person effects come from one half of the outcomes,
labels from the other, one network each way, averaged. With leave-one-out or k-fold effects the
network recognises the person and reads the label off the outcome that is missing.

Shapes: n pairs, f features of a person, k = f + 2 its state, b batch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.trainer.core.recipe import CrossRecipe
from services.trainer.learning.features import EPSILON
from services.trainer.learning.journal import Trained
from services.trainer.learning.light import EFFECTS, LightTraining
from services.trainer.learning.mixed_model import Fit
from services.trainer.learning.snapshot import Snapshot, half, triplets_within


class PairNetwork(nn.Module):
    """States of both people to a residual logit."""

    def __init__(self, features: int, recipe: CrossRecipe, generator: torch.Generator) -> None:
        super().__init__()
        self.features_count = features
        state, hidden, rank = features + EFFECTS, recipe.hidden, recipe.rank

        def draw(rows: int, columns: int, inputs: int) -> nn.Parameter:
            values = torch.randn(rows, columns, generator=generator)
            return nn.Parameter(values / max(inputs, 1) ** 0.5)

        self.seeker_in = draw(state, hidden, 2 * state)
        self.candidate_in = draw(state, hidden, 2 * state)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.out = nn.Parameter(torch.zeros(hidden, 1))
        self.out_bias = nn.Parameter(torch.zeros(1))
        self.seeker_tastes = draw(features, rank, features)
        self.candidate_tastes = nn.Parameter(torch.zeros(features, rank))

    def forward(self, seekers_nk: Tensor, candidates_nk: Tensor) -> Tensor:
        """Returns residuals [n, 1]; one seeker may stand for all pairs."""
        ours = torch.matmul(seekers_nk, self.seeker_in)
        theirs = torch.matmul(candidates_nk, self.candidate_in)
        hidden = torch.relu(ours + theirs + self.bias)
        residual = torch.matmul(hidden, self.out) + self.out_bias
        f = self.features_count
        wanted = torch.matmul(torch.narrow(seekers_nk, 1, 0, f), self.seeker_tastes)
        offered = torch.matmul(torch.narrow(candidates_nk, 1, 0, f), self.candidate_tastes)
        return residual + torch.sum(wanted * offered, 1, keepdim=True)


class CrossModel(nn.Module):
    """The mean of two networks."""

    def __init__(self, networks: list[PairNetwork]) -> None:
        super().__init__()
        self.first, self.second = networks

    def forward(self, seekers_nk: Tensor, candidates_nk: Tensor) -> Tensor:
        """Returns residuals [n, 1]."""
        first: Tensor = self.first(seekers_nk, candidates_nk)
        second: Tensor = self.second(seekers_nk, candidates_nk)
        return (first + second) * 0.5


class _Side:
    """One network, the outcomes that label it, and the states that its history gives."""

    def __init__(
        self,
        snapshot: Snapshot,
        light: LightTraining,
        fit: Fit,
        rows: Tensor,
        *,
        side: int,
        recipe: CrossRecipe,
        seed: int,
    ) -> None:
        self._snapshot = snapshot
        self._recipe = recipe
        self._seed = seed * 2 + side
        self._rows = half(snapshot, rows, side)
        self._triplets = triplets_within(snapshot, self._rows)
        effects = light.effects(fit, half(snapshot, rows, 1 - side))
        self._states = light.states(effects)
        self._logits = torch.zeros(len(snapshot.seekers), device=rows.device)
        self._logits[self._rows] = light.logits(fit, self._rows, effects).float()
        generator = torch.Generator().manual_seed(self._seed)
        network = PairNetwork(light.features.width, recipe, generator)
        self.network = network.to(rows.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def run_epoch(self, number: int) -> float:
        """One pass over outcomes and triplets; returns the mean loss."""
        batches = max(1, len(self._rows) // self._recipe.batch)
        # The order of an epoch depends on its number alone: a resumed run goes on as it would have.
        generator = torch.Generator().manual_seed(self._seed * 1_000 + number)
        rows = self._rows[torch.randperm(len(self._rows), generator=generator)]
        triplets = self._triplets[torch.randperm(len(self._triplets), generator=generator)]
        total = torch.zeros((), device=rows.device)
        for batch in range(batches):
            loss = self._loss(rows[batch::batches], triplets[batch::batches])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return float(total / batches)

    def _loss(self, rows_b: Tensor, triplets_b: Tensor) -> Tensor:
        snapshot, share = self._snapshot, self._recipe.triplet_share
        positive, negative = snapshot.triplets[triplets_b, 1:].T
        scores = self._score(torch.cat([rows_b, positive, negative]))  # one pass costs less than 3
        sizes = [len(rows_b), len(triplets_b), len(triplets_b)]
        absolute, above, below = torch.split(scores, sizes)
        losses = functional.binary_cross_entropy_with_logits(
            absolute, snapshot.positive[rows_b].float(), reduction="none"
        )
        weights = snapshot.weights[rows_b].float()
        loss = (1 - share) * (losses * weights).sum() / weights.sum().clamp(min=EPSILON)
        if len(triplets_b):
            weights = snapshot.triplet_weights[triplets_b]
            losses = functional.softplus(below - above)
            loss = loss + share * (weights * losses).sum() / weights.sum()
        return loss

    def _score(self, rows_b: Tensor) -> Tensor:
        seekers, candidates = self._snapshot.seekers[rows_b], self._snapshot.candidates[rows_b]
        residual: Tensor = self.network(self._states[seekers], self._states[candidates])
        return self._logits[rows_b] + residual[:, 0]


class CrossTraining:
    """Training the stage on some outcomes, epoch by epoch."""

    def __init__(
        self,
        snapshot: Snapshot,
        light: LightTraining,
        fit: Fit,
        rows: Tensor,
        *,
        recipe: CrossRecipe,
        seed: int,
    ) -> None:
        self._sides = [
            _Side(snapshot, light, fit, rows, side=side, recipe=recipe, seed=seed)
            for side in (0, 1)
        ]

    @property
    def model(self) -> CrossModel:
        """The stage as it stands."""
        return CrossModel([side.network for side in self._sides])

    def run_epoch(self, number: int) -> float:
        """Epoch `number`, from 0; returns the mean loss."""
        return sum(side.run_epoch(number) for side in self._sides) / len(self._sides)

    def modules(self) -> Trained:
        """What a checkpoint must hold."""
        return [(side.network, side.optimizer) for side in self._sides]
