"""Logistic regression with random effects: who says yes to whom.

    logit P(yes of s to c) = x(s, c) · β + a_s + b_c

a is how easily a person says yes, b how easily others say yes to them; (a, b) ~ N(0, Σ) per person,
β_k ~ N(μ_k, 1/λ) with one λ a block of features; μ is 0, or what a domain head says. β, a and b are
found together at their posterior mode by Newton's method with conjugate gradients; λ and Σ by
evidence (MacKay 1992; Breslow and Clayton 1993). Σ from Laplace's approximation is too small when
people have few outcomes, so its scale is chosen by cross-validation. No learning rate, no seed.

Shapes: n outcomes, d features, U people; everything float64.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

INTERCEPT_PRECISION = 1e-4
RIDGE_MIN, RIDGE_MAX = 1.0, 1e5
STEP_MAX = 3.0
TOLERANCE = 1e-3
CG_STEPS_MAX = 60
CG_TOLERANCE = 1e-8
FIRST_NEWTON_STEPS, NEWTON_STEPS = 6, 2
SWEEPS_FOLD, SWEEPS_FINAL = 15, 60

INTERCEPT, SEEKER, CANDIDATE, PAIR = -1, 0, 1, 2


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the model is fitted to."""

    design: Tensor
    """[n, d], the first column 1."""
    seekers: Tensor
    """int64 [n]"""
    candidates: Tensor
    """int64 [n]"""
    positive: Tensor
    """[n] 0 or 1."""
    weights: Tensor
    """[n]"""
    users_count: int

    def take(self, places: Tensor) -> "Outcomes":
        """Some of the outcomes."""
        return Outcomes(
            self.design[places],
            self.seekers[places],
            self.candidates[places],
            self.positive[places],
            self.weights[places],
            self.users_count,
        )

    def sum_by_role(self, values: Tensor) -> Tensor:
        """Sums [n] or [n, k] per person and role: [U, 2] or [U, 2, k]."""
        return torch.stack(
            [self._sum(self.seekers, values), self._sum(self.candidates, values)], dim=1
        )

    def effects_of(self, effects_u2: Tensor) -> Tensor:
        """a_s + b_c per outcome."""
        return effects_u2[self.seekers, 0] + effects_u2[self.candidates, 1]

    def _sum(self, people: Tensor, values: Tensor) -> Tensor:
        total = torch.zeros(
            self.users_count, *values.shape[1:], dtype=values.dtype, device=values.device
        )
        return total.index_add_(0, people, values)


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of the design is."""

    roles: Tensor
    """int64 [d]: INTERCEPT, SEEKER, CANDIDATE or PAIR."""
    blocks: Tensor
    """int64 [d]: the ridge that the column is under, -1 for the intercept."""
    means: Tensor
    """[d] μ: what β is drawn to."""

    @property
    def blocks_count(self) -> int:
        """How many ridges there are."""
        return int(self.blocks.max()) + 1


@dataclass(frozen=True, slots=True)
class Fit:
    """The model at its posterior mode."""

    beta: Tensor
    """[d]"""
    effects: Tensor
    """[U, 2]: a and b."""
    ridges: Tensor
    """[blocks]"""
    covariance: Tensor
    """[2, 2]: Σ."""
    scale: float = 1.0
    """How much of Σ is the chosen scale: β was found without it."""
    loss: float = math.nan
    """Mean log-loss over the outcomes; cross-validated once the scale of Σ is chosen."""


def start(outcomes: Outcomes, columns: Columns, ridge: float, variance: float) -> Fit:
    """The model before the first round: everyone says yes as often as all do."""
    weights = outcomes.weights
    rate = ((weights @ outcomes.positive) / weights.sum()).clamp(0.01, 0.99)
    beta = columns.means.clone()
    beta[0] = torch.logit(rate)
    return Fit(
        beta,
        weights.new_zeros(outcomes.users_count, 2),
        weights.new_full((columns.blocks_count,), ridge),
        torch.eye(2, dtype=weights.dtype, device=weights.device) * variance,
    )


def run_round(outcomes: Outcomes, columns: Columns, fit: Fit, *, first: bool, last: bool) -> Fit:
    """One round: the mode under the present variances, then, except in the last, new variances."""
    blocks = columns.blocks
    precision = torch.where(
        blocks < 0,
        torch.full_like(fit.beta, INTERCEPT_PRECISION),
        fit.ridges[blocks.clamp(min=0)],
    )
    inverse = torch.linalg.inv(fit.covariance)
    steps = FIRST_NEWTON_STEPS if first else NEWTON_STEPS
    beta, effects, weights = _find_mode(outcomes, columns, precision, inverse, fit, steps=steps)
    loss = _log_loss(outcomes, outcomes.design @ beta + outcomes.effects_of(effects))
    fit = replace(fit, beta=beta, effects=effects, loss=loss)
    if last:
        return fit
    variances = _beta_variances(outcomes, columns, weights, precision, inverse)
    ridges = fit.ridges.clone()
    for block in range(columns.blocks_count):
        inside = blocks == block
        effective = inside.sum() - fit.ridges[block] * variances[inside].sum()
        ridges[block] = effective / ((beta - columns.means)[inside] ** 2).sum().clamp(min=1e-9)
    people = outcomes.sum_by_role(torch.ones_like(weights)).sum(1) > 0
    curvature = torch.diag_embed(outcomes.sum_by_role(weights)) + inverse
    spread = effects[people].T @ effects[people] + torch.linalg.inv(curvature)[people].sum(0)
    return replace(fit, ridges=ridges.clamp(RIDGE_MIN, RIDGE_MAX), covariance=spread / people.sum())


def choose_variance(outcomes: Outcomes, fit: Fit, scales: tuple[float, ...], folds: Tensor) -> Fit:
    """Scales Σ by the factor under which outcomes left out are predicted best, β kept."""
    fixed = outcomes.design @ fit.beta
    best = fit
    for scale in scales:
        covariance = fit.covariance * scale
        logits = fixed.clone()
        for number in folds.unique():
            rest, left_out = folds != number, folds == number
            effects = solve_effects(
                outcomes.take(rest), fixed[rest], covariance, sweeps=SWEEPS_FOLD
            )
            logits[left_out] += outcomes.effects_of(effects)[left_out]
        loss = _log_loss(outcomes, logits)
        if scale == scales[0] or loss < best.loss:
            best = replace(fit, covariance=covariance, scale=scale, loss=loss)
    effects = solve_effects(outcomes, fixed, best.covariance, sweeps=SWEEPS_FINAL)
    return replace(best, effects=effects)


def fit_under(outcomes: Outcomes, columns: Columns, begun: Fit, found: Fit) -> Fit:
    """The mode under the variances of a finished fit to other outcomes; `begun` is the start."""
    begun = replace(begun, ridges=found.ridges, covariance=found.covariance / found.scale)
    fit = run_round(outcomes, columns, begun, first=True, last=True)
    effects = solve_effects(outcomes, outcomes.design @ fit.beta, found.covariance)
    return replace(fit, effects=effects, covariance=found.covariance, scale=found.scale)


def solve_effects(
    outcomes: Outcomes, fixed: Tensor, covariance: Tensor, *, sweeps: int = SWEEPS_FINAL
) -> Tensor:
    """The mode [U, 2] of all effects given the rest of the logits [n]: Newton, person by person."""
    precision = torch.linalg.inv(covariance)
    effects = torch.zeros(
        outcomes.users_count, 2, dtype=torch.float64, device=outcomes.weights.device
    )
    for _ in range(sweeps):
        before = effects.clone()
        for role in (0, 1):
            chance = torch.sigmoid(fixed + outcomes.effects_of(effects))
            residual = outcomes.weights * (outcomes.positive - chance)
            curvature = outcomes.weights * chance * (1 - chance)
            gradient = outcomes.sum_by_role(residual)[:, role] - effects @ precision[role]
            bend = outcomes.sum_by_role(curvature)[:, role] + precision[role, role]
            effects[:, role] += (gradient / bend).clamp(-1, 1)
        if (effects - before).abs().max() < 1e-10:
            break
    return effects


def _find_mode(
    outcomes: Outcomes,
    columns: Columns,
    precision: Tensor,
    inverse: Tensor,
    fit: Fit,
    *,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's method on β and all effects together; also returns the outcomes' curvatures [n]."""
    beta, effects = fit.beta, fit.effects
    weights = outcomes.weights
    for _ in range(steps):
        chance = torch.sigmoid(outcomes.design @ beta + outcomes.effects_of(effects))
        residual = outcomes.weights * (outcomes.positive - chance)
        weights = (outcomes.weights * chance * (1 - chance)).clamp(min=1e-6)
        gradient = (
            outcomes.design.T @ residual - precision * (beta - columns.means),
            outcomes.sum_by_role(residual) - effects @ inverse,
        )
        step = _Curvature(outcomes, weights, precision, inverse).solve(*gradient)
        largest = max(float(part.abs().max()) for part in step)
        scale = min(1.0, STEP_MAX / max(largest, 1e-12))
        beta, effects = beta + scale * step[0], effects + scale * step[1]
        if largest < TOLERANCE:
            break
    return beta, effects, weights


class _Curvature:
    """The negative Hessian of the posterior, as an operator, with a preconditioner."""

    def __init__(
        self, outcomes: Outcomes, weights: Tensor, precision: Tensor, inverse: Tensor
    ) -> None:
        self._outcomes = outcomes
        self._weights = weights
        self._precision = precision
        self._inverse = inverse
        design = outcomes.design
        weighted = design * weights[:, None]
        own = torch.diag_embed(outcomes.sum_by_role(weights))
        # Twice the own curvature bounds the coupling between seekers and candidates: with it once,
        # the preconditioner may be indefinite, and the solver would stop short without a word.
        self._people = torch.linalg.inv(2 * own + inverse)
        self._coupling = outcomes.sum_by_role(weighted)
        self._reduced = torch.einsum("uij,ujd->uid", self._people, self._coupling)
        schur = design.T @ weighted + torch.diag(precision)
        schur -= torch.einsum("uid,uie->de", self._coupling, self._reduced)
        identity = torch.eye(len(precision), dtype=schur.dtype, device=schur.device)
        self._fixed = torch.linalg.inv(schur + 1e-8 * identity)

    def solve(self, beta: Tensor, effects: Tensor) -> tuple[Tensor, Tensor]:
        """Conjugate gradients: x with H x = (beta, effects)."""
        x = (torch.zeros_like(beta), torch.zeros_like(effects))
        residual = (beta, effects)
        preconditioned = self._precondition(*residual)
        direction = preconditioned
        size = first = _dot(residual, preconditioned)
        for _ in range(CG_STEPS_MAX):
            if not size > 0:
                break
            product = self._multiply(*direction)
            length = size / _dot(direction, product)
            x = _add(x, direction, length)
            residual = _add(residual, product, -length)
            preconditioned = self._precondition(*residual)
            size, before = _dot(residual, preconditioned), size
            if size < CG_TOLERANCE * first:
                break
            direction = _add(preconditioned, direction, size / before)
        return x

    def _multiply(self, beta: Tensor, effects: Tensor) -> tuple[Tensor, Tensor]:
        outcomes = self._outcomes
        moved = self._weights * (outcomes.design @ beta + outcomes.effects_of(effects))
        return (
            outcomes.design.T @ moved + self._precision * beta,
            outcomes.sum_by_role(moved) + effects @ self._inverse,
        )

    def _precondition(self, beta: Tensor, effects: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.einsum("uij,uj->ui", self._people, effects)
        fixed = self._fixed @ (beta - torch.einsum("uid,ui->d", self._coupling, own))
        return fixed, own - self._reduced @ fixed


def _beta_variances(
    outcomes: Outcomes, columns: Columns, weights: Tensor, precision: Tensor, inverse: Tensor
) -> Tensor:
    """Posterior variances of β [d], the effects of the columns' own role integrated out."""
    variances = torch.full_like(precision, 1e-6)
    totals = outcomes.sum_by_role(weights)
    for role in (SEEKER, CANDIDATE, PAIR):
        inside = columns.roles == role
        design = outcomes.design[:, inside]
        weighted = design * weights[:, None]
        curvature = design.T @ weighted + torch.diag(precision[inside])
        if role != PAIR:
            sums = outcomes.sum_by_role(weighted)[:, role]
            own = totals[:, role] + inverse[role, role]
            curvature -= sums.T @ (sums / own[:, None])
        variances[inside] = torch.diagonal(torch.linalg.inv(curvature))
    return variances


def _log_loss(outcomes: Outcomes, logits: Tensor) -> float:
    losses = torch.nn.functional.softplus(logits) - outcomes.positive * logits
    return float((outcomes.weights @ losses) / outcomes.weights.sum())


def _dot(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> float:
    return float((left[0] * right[0]).sum() + (left[1] * right[1]).sum())


def _add(
    left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], factor: float
) -> tuple[Tensor, Tensor]:
    return left[0] + factor * right[0], left[1] + factor * right[1]
