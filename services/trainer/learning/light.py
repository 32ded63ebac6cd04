"""The linear stage: features and person effects to one logit.

A person enters the head as a state: features, and the effects (a, b) of mixed_model.py. Effects are
not stored. Wherever the head runs, they are solved from the person's four counters, which go on
growing after the training: the mode of (a, b) under the prior N(0, Σ), given how often the person
said yes and was told yes. What is stored is how far the person's partners were from average (the
table); with it, the solution from the training's counters is exactly the fitted effect.

Shapes: n people or pairs, U people of a snapshot, f features of a person, k = f + 2 its state.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from services.trainer.core.recipe import LightRecipe
from services.trainer.learning import mixed_model
from services.trainer.learning.features import EPSILON, Features
from services.trainer.learning.mixed_model import Columns, Fit, Outcomes
from services.trainer.learning.prior import Prior
from services.trainer.learning.snapshot import Snapshot, count_outcomes

NEWTON_STEPS = 8
NEWTON_STEP_MAX = 2.0
EFFECTS = 2

_GIVEN = torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, 0]])
_POSITIVE = torch.tensor([[0.0, 0], [1, 0], [0, 0], [0, 1]])
_SWAP = torch.tensor([[0.0, 1], [1, 0]])


class PersonModel(nn.Module):
    """People to states, in float32."""

    weights: Tensor
    level: Tensor
    precision: Tensor
    given: Tensor
    positive: Tensor
    swap: Tensor
    own: Tensor
    both: Tensor

    def __init__(self, features: Features, weights_f2: Tensor, precision: Tensor) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weights", weights_f2)
        self.register_buffer("level", torch.zeros(1, EFFECTS, device=weights_f2.device))
        self.register_buffer("precision", precision)
        self.register_buffer("own", torch.diagonal(precision)[None].contiguous())
        self.register_buffer("both", precision[:1, 1:].contiguous())
        for name, value in (("given", _GIVEN), ("positive", _POSITIVE), ("swap", _SWAP)):
            self.register_buffer(name, value.to(weights_f2.device))

    def forward(self, columns_nc: Tensor, counts_n4: Tensor, table_n2: Tensor) -> Tensor:
        """Returns states [n, k]."""
        described = self.features.describe(columns_nc)
        expected = torch.matmul(described, self.weights) + self.level + table_n2
        given = torch.matmul(counts_n4, self.given)
        positive = torch.matmul(counts_n4, self.positive)
        effects = expected * 0.0
        for _ in range(NEWTON_STEPS):
            chance = torch.sigmoid(expected + effects)
            gradient = positive - given * chance - torch.matmul(effects, self.precision)
            bend = given * chance * (1.0 - chance) + self.own
            # The inverse of a 2 x 2 matrix, by hand: its diagonal swapped, over its determinant.
            swapped = torch.matmul(bend, self.swap)
            step = swapped * gradient - self.both * torch.matmul(gradient, self.swap)
            step = step / (bend * swapped - self.both * self.both)
            effects = effects + torch.clamp(step, -NEWTON_STEP_MAX, NEWTON_STEP_MAX)
        return torch.cat([described, effects], 1)


class LightModel(nn.Module):
    """States of a seeker and of candidates to logits, in float32."""

    seeker_weights: Tensor
    candidate_weights: Tensor
    pair_weights: Tensor
    shift: Tensor

    def __init__(
        self,
        features: Features,
        seeker_k1: Tensor,
        candidate_k1: Tensor,
        pair_g1: Tensor,
        shift: Tensor,
    ) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("seeker_weights", seeker_k1)
        self.register_buffer("candidate_weights", candidate_k1)
        self.register_buffer("pair_weights", pair_g1)
        self.register_buffer("shift", shift)

    def forward(self, seekers_nk: Tensor, candidates_nk: Tensor, cosines_n1: Tensor) -> Tensor:
        """Returns logits [n, 1]; one seeker may stand for all pairs."""
        f = self.features.width
        compared = self.features.compare(
            torch.narrow(seekers_nk, 1, 0, f), torch.narrow(candidates_nk, 1, 0, f), cosines_n1
        )
        ours = torch.matmul(seekers_nk, self.seeker_weights)
        theirs = torch.matmul(candidates_nk, self.candidate_weights)
        return ours + theirs + torch.matmul(compared, self.pair_weights) + self.shift


class LightTraining:
    """Fitting the stage to some outcomes of a snapshot, round by round."""

    def __init__(
        self, snapshot: Snapshot, rows: Tensor, recipe: LightRecipe, prior: Prior | None = None
    ) -> None:
        self._snapshot = snapshot
        self._rows = rows
        self._recipe = recipe
        self._people = torch.cat([snapshot.seekers[rows], snapshot.candidates[rows]]).unique()
        features = Features(snapshot.fields, snapshot.columns[self._people].cpu())
        self.features = features.to(snapshot.columns.device)
        self.described = self.features.describe(snapshot.columns)
        compared = self._compare(rows)
        self._pair_mean = compared.mean(0)
        self._pair_deviation = compared.std(0, correction=0) + EPSILON
        self._columns = _columns(self.features)
        if prior is not None:
            self._columns = replace(self._columns, means=prior.weights(self._translate(prior)))
        self._outcomes = self._outcomes_of(rows)

    def start(self) -> Fit:
        """The model before the first round."""
        recipe = self._recipe
        return mixed_model.start(
            self._outcomes, self._columns, recipe.ridge_start, recipe.variance_start
        )

    def run_round(self, fit: Fit, number: int) -> Fit:
        """Round `number`, from 0."""
        last = number == self._recipe.rounds - 1
        return mixed_model.run_round(
            self._outcomes, self._columns, fit, first=number == 0, last=last
        )

    def choose_variance(self, fit: Fit, folds: Tensor) -> Fit:
        """The last step: the scale of the effects' variance."""
        scales = self._recipe.variance_scales
        return mixed_model.choose_variance(self._outcomes, fit, scales, folds)

    def fit_under(self, found: Fit) -> Fit:
        """The model under variances that were found on other outcomes."""
        return mixed_model.fit_under(self._outcomes, self._columns, self.start(), found)

    def effects(self, fit: Fit, rows: Tensor) -> Tensor:
        """The effects [U, 2] that some outcomes speak for, the weights kept."""
        outcomes = self._outcomes_of(rows)
        return mixed_model.solve_effects(outcomes, outcomes.design @ fit.beta, fit.covariance)

    def logits(self, fit: Fit, rows: Tensor, effects_u2: Tensor) -> Tensor:
        """Logits [rows] of outcomes under given effects."""
        outcomes = self._outcomes_of(rows)
        return outcomes.design @ fit.beta + outcomes.effects_of(effects_u2)

    def states(self, effects_u2: Tensor) -> Tensor:
        """States [U, k] of everyone under given effects, in float32."""
        return torch.cat([self.described, effects_u2.float()], dim=1)

    def models(self, fit: Fit) -> tuple[PersonModel, LightModel]:
        """The fitted stage: people to states, states to logits."""
        seeker, candidate, pair = (
            fit.beta[self._columns.roles == role]
            for role in (mixed_model.SEEKER, mixed_model.CANDIDATE, mixed_model.PAIR)
        )
        pair = pair / self._pair_deviation
        shift = fit.beta[0] - self._pair_mean @ pair
        one, none = torch.ones_like(shift)[None], torch.zeros_like(shift)[None]
        light = LightModel(
            self.features,
            torch.cat([seeker, one, none])[:, None].float(),
            torch.cat([candidate, none, one])[:, None].float(),
            pair[:, None].float(),
            shift[None, None].float(),
        )
        weights = torch.stack([seeker, candidate], dim=1).float()
        person = PersonModel(self.features, weights, torch.linalg.inv(fit.covariance).float())
        levels, counts = self._levels(fit, person, self._rows)
        mean = (levels * counts).sum(0) / counts.sum(0).clamp(min=1)
        person.level = mean[None].float()
        return person, light

    def table(self, fit: Fit, person: PersonModel, rows: Tensor) -> Tensor:
        """The table [U, 2] with which counters of `rows` give the effects that `rows` speak for."""
        levels, counts = self._levels(fit, person, rows)
        distances = levels - person.level.double()
        return torch.where(counts > 0, distances, torch.zeros_like(distances)).float()

    def _levels(self, fit: Fit, person: PersonModel, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What partners and intercept add to each person's logits [U, 2], and how many say so."""
        counts = count_outcomes(self._snapshot, rows).double()
        given, positive = counts[:, 0::2], counts[:, 1::2]
        effects = self.effects(fit, rows)
        # At the mode, yes less expected yes is the prior's pull: that says what was expected.
        expected = (positive - effects @ torch.linalg.inv(fit.covariance)) / given.clamp(min=1)
        logits = torch.logit(expected.clamp(1e-4, 1 - 1e-4))
        levels = logits - effects - (self.described @ person.weights).double()
        return torch.where(given > 0, levels, torch.zeros_like(levels)), given

    def _outcomes_of(self, rows: Tensor) -> Outcomes:
        snapshot = self._snapshot
        return Outcomes(
            self._design(rows),
            snapshot.seekers[rows],
            snapshot.candidates[rows],
            snapshot.positive[rows],
            snapshot.weights[rows],
            snapshot.users_count,
        )

    def _design(self, rows: Tensor) -> Tensor:
        return self._design_of(self._snapshot, self.described, rows)

    def _translate(self, prior: Prior) -> Tensor:
        strangers = prior.strangers
        pairs = torch.arange(len(strangers.seekers), device=strangers.seekers.device)
        return self._design_of(strangers, self.features.describe(strangers.columns), pairs)

    def _design_of(self, snapshot: Snapshot, described: Tensor, rows: Tensor) -> Tensor:
        """Intercept, seeker, candidate, pair: [rows, d]."""
        ones = torch.ones(len(rows), 1, dtype=torch.float64, device=rows.device)
        people = [described[who[rows]] for who in (snapshot.seekers, snapshot.candidates)]
        compared = self._compare_in(snapshot, described, rows)
        compared = (compared - self._pair_mean) / self._pair_deviation
        return torch.cat([ones, *(person.double() for person in people), compared], dim=1)

    def _compare(self, rows: Tensor) -> Tensor:
        return self._compare_in(self._snapshot, self.described, rows)

    def _compare_in(self, snapshot: Snapshot, described: Tensor, rows: Tensor) -> Tensor:
        seekers, candidates = snapshot.seekers[rows], snapshot.candidates[rows]
        cosines = (snapshot.vectors[seekers] * snapshot.vectors[candidates]).sum(1, keepdim=True)
        return self.features.compare(described[seekers], described[candidates], cosines).double()


def _columns(features: Features) -> Columns:
    """Roles and blocks of the design's columns."""
    person, pair = features.blocks()
    own = features.person_blocks_count
    roles = [mixed_model.INTERCEPT] + [mixed_model.SEEKER] * len(person)
    roles += [mixed_model.CANDIDATE] * len(person) + [mixed_model.PAIR] * len(pair)
    intercept = torch.full_like(pair[:1], -1)
    blocks = torch.cat([intercept, person, person + own, pair + 2 * own])
    means = torch.zeros(len(roles), dtype=torch.float64, device=pair.device)
    return Columns(torch.tensor(roles, device=pair.device), blocks, means)
