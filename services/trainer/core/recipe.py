"""The recipe: every number that a run is made with.

A run is a function of snapshot, recipe, seed and code version.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Outcomes by time: what is learned from, what training is steered by, what the gate sees."""

    training: float = 0.70
    validation: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class LightRecipe:
    """Logistic regression with a random effect per person and role; see learning/mixed_model.py."""

    rounds: int = 8
    """Of expectation-maximisation, each some Newton steps and then new variances."""
    ridge_start: float = 200.0
    variance_start: float = 0.8
    variance_scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """Laplace's approximation understates the variance of effects seen through few outcomes; which
    scale is right is decided by cross-validation."""
    folds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossRecipe:
    """What the linear stage cannot say: a small network over the pair, on top of its score."""

    hidden: int = 16
    rank: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1.0
    triplet_share: float = 0.5
    """Of the loss; the rest is the outcomes' own log-loss."""
    batch: int = 256
    epochs: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMapRecipe:
    """Where in the candidates' space a seeker's taste lies: the identity plus a low-rank part."""

    rank: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    temperature: float = 0.05
    in_batch_share: float = 0.1
    """Weight of a candidate of another triplet against an explicit negative."""
    batch: int = 256
    epochs: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One recipe for all domains: nothing in it is tuned to a data set."""

    split: Split = field(default_factory=Split)
    light: LightRecipe = field(default_factory=LightRecipe)
    cross: CrossRecipe = field(default_factory=CrossRecipe)
    query_map: QueryMapRecipe = field(default_factory=QueryMapRecipe)
    patience: int = 6
    """Evaluations without a better one after which a stage stops."""
    threads: int = 1
    """Sums depend on their order, and the order on the number of threads."""
    gate_folds: int = 5
    """Of people, each ranked by what the others' outcomes tell."""
    evaluation_outcomes_max: int = 200_000


DEFAULT_RECIPE = Recipe()
