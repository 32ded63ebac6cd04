"""The mixed model: its mode is the mode, its effects are found again from counters."""

import pytest
import torch

from services.trainer.core.recipe import LightRecipe, Split
from services.trainer.learning.light import LightTraining
from services.trainer.learning.mixed_model import Fit
from services.trainer.learning.snapshot import (
    Snapshot,
    count_outcomes,
    fold,
    read_snapshot,
    split_outcomes,
)
from tests.support.snapshots import snapshot

RECIPE = LightRecipe()


@pytest.fixture(scope="module")
def domain() -> Snapshot:
    return read_snapshot(snapshot(people=120, partners=16))


@pytest.fixture(scope="module")
def rows(domain: Snapshot) -> torch.Tensor:
    parts = split_outcomes(domain, Split())
    return torch.cat([parts.training, parts.validation])


@pytest.fixture(scope="module")
def light(domain: Snapshot, rows: torch.Tensor) -> LightTraining:
    return LightTraining(domain, rows, RECIPE)


@pytest.fixture(scope="module")
def fit(domain: Snapshot, rows: torch.Tensor, light: LightTraining) -> Fit:
    fitted = light.start()
    for number in range(RECIPE.rounds):
        fitted = light.run_round(fitted, number)
    return light.choose_variance(fitted, fold(domain, rows, RECIPE.folds))


def test_at_the_mode_no_effect_wants_to_move(
    domain: Snapshot, rows: torch.Tensor, light: LightTraining, fit: Fit
) -> None:
    chance = torch.sigmoid(light.logits(fit, rows, fit.effects))
    residual = domain.positive[rows] - chance
    gradient = torch.zeros_like(fit.effects)
    gradient[:, 0].index_add_(0, domain.seekers[rows], residual)
    gradient[:, 1].index_add_(0, domain.candidates[rows], residual)
    gradient -= fit.effects @ torch.linalg.inv(fit.covariance)
    assert gradient.abs().max() < 1e-6


def test_the_mode_is_that_of_a_general_optimizer(
    domain: Snapshot, rows: torch.Tensor, light: LightTraining
) -> None:
    fitted = light.start()
    for _ in range(12):
        fitted = light.run_round(fitted, RECIPE.rounds - 1)  # Newton alone, variances kept
    outcomes = light._outcomes
    precision = torch.full_like(fitted.beta, RECIPE.ridge_start)
    precision[0] = 1e-4
    inverse = torch.linalg.inv(fitted.covariance)
    beta = torch.zeros_like(fitted.beta, requires_grad=True)
    effects = torch.zeros_like(fitted.effects, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [beta, effects], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = outcomes.design @ beta + outcomes.effects_of(effects)
        loss = torch.nn.functional.softplus(logits) - outcomes.positive * logits
        total: torch.Tensor = loss.sum() + 0.5 * (precision * beta**2).sum()
        total = total + 0.5 * ((effects @ inverse) * effects).sum()
        total.backward()
        return total

    optimizer.step(closure)
    assert torch.allclose(fitted.beta, beta.detach(), atol=1e-4)
    assert torch.allclose(fitted.effects, effects.detach(), atol=1e-4)


def test_known_effects_are_found(light: LightTraining, fit: Fit) -> None:
    """The domain is made with effects of variance 1, drawn first after the columns."""
    assert 0.4 < fit.covariance[0, 0] < 2.5
    assert 0.4 < fit.covariance[1, 1] < 2.5


def test_a_plain_column_is_weighed_and_noise_is_not(
    domain: Snapshot, light: LightTraining, fit: Fit
) -> None:
    _, linear = light.models(fit)
    width = light.features.width
    age, income = linear.candidate_weights[0, 0], linear.candidate_weights[1, 0]
    assert age > 0.4
    assert abs(income) < age / 3
    assert linear.candidate_weights.shape == (width + 2, 1)


def test_counters_and_table_give_the_fitted_effects_back(
    domain: Snapshot, rows: torch.Tensor, light: LightTraining, fit: Fit
) -> None:
    person, _ = light.models(fit)
    table = light.table(fit, person, rows)
    states = person(domain.columns, count_outcomes(domain, rows), table)
    assert torch.allclose(states[:, -2:].double(), fit.effects, atol=1e-3)


def test_the_modules_score_as_the_fit_does(
    domain: Snapshot, rows: torch.Tensor, light: LightTraining, fit: Fit
) -> None:
    person, linear = light.models(fit)
    table = light.table(fit, person, rows)
    states = person(domain.columns, count_outcomes(domain, rows), table)
    seekers, candidates = domain.seekers[rows], domain.candidates[rows]
    cosines = (domain.vectors[seekers] * domain.vectors[candidates]).sum(1, keepdim=True)
    logits = linear(states[seekers], states[candidates], cosines)[:, 0]
    assert torch.allclose(logits.double(), light.logits(fit, rows, fit.effects), atol=1e-3)


def test_who_has_no_outcomes_has_no_effect(
    domain: Snapshot, light: LightTraining, fit: Fit
) -> None:
    person, _ = light.models(fit)
    nothing = torch.zeros(domain.users_count, 4)
    states = person(domain.columns, nothing, torch.zeros(domain.users_count, 2))
    assert states[:, -2:].abs().max() == 0


def test_more_yes_means_more_appeal(domain: Snapshot, light: LightTraining, fit: Fit) -> None:
    person, _ = light.models(fit)
    counts = torch.tensor([[10.0, 5, 10, yes] for yes in range(11)])
    columns = domain.columns[:1].expand(11, -1)
    appeal = person(columns, counts, torch.zeros(11, 2))[:, -1]
    assert (appeal.diff() > 0).all()
