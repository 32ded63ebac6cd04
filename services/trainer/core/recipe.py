"""The recipe: every number that a run is made with.

A run is a function of snapshot, recipe, seed and code version.
"""

from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Outcomes by time: what settings are searched on, and tried on; the gate asks the rest."""

    training: float = 0.55
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
class FactorsRecipe:
    """Vectors of candidates where hardly anybody says no; see learning/factors.py."""

    rank: int = 384
    numbers_max: int = 30_000_000
    """Of a table of vectors: the rank falls where candidates are more than this by the rank."""
    ridges: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)
    recency_floor: float = 0.5
    """Weight of the oldest choice of a history, the latest having 1."""
    recency_places: tuple[float, ...] = (5.0, 10.0)
    """Over how many later choices what is above the floor falls to a third."""
    others_loss_max: float = 0.01
    """Share of NDCG@10 at any other choice that may be given up for the next one."""
    follows_weight: float = 2.0
    """β: of having been chosen soon after each other, against by the same seeker."""
    window: int = 5
    window_decay: float = 0.6
    follows_max: int = 40_000_000
    """Entries of P: with more outcomes than that the window shrinks, and with it goes β."""
    iterations: int = 7
    held_out_parts: int = 10
    """One of so many choices is held out to be found again."""
    negatives: int = 20
    """Drawn for each choice that is judged."""
    seekers_max: int = 2_000
    """Ranked to decide by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One recipe for all domains: nothing in it is tuned to a data set."""

    split: Split = field(default_factory=Split)
    split_of_many: Split = field(default_factory=partial(Split, training=0.70, validation=0.15))
    twins_outcomes_max: int = 50_000
    """Up to so many outcomes the gate asks about more of them, and each fold of people is ranked by
    a twin of its own; of more, the last are enough, and one twin learns from all before them."""
    agreement_min: float = 0.8
    """Rank correlation between the head and its twins, below which a lone twin is exported."""
    light: LightRecipe = field(default_factory=LightRecipe)
    cross: CrossRecipe = field(default_factory=CrossRecipe)
    query_map: QueryMapRecipe = field(default_factory=QueryMapRecipe)
    factors: FactorsRecipe = field(default_factory=FactorsRecipe)
    patience: int = 6
    """Evaluations without a better one after which a stage stops."""
    threads: int = 1
    """Sums depend on their order, and the order on the number of threads."""
    gate_folds: int = 3
    """Of people, each ranked by what the others' outcomes tell."""
    evaluation_outcomes_max: int = 200_000
    evaluation_slots_max: int = 50_000
    """Of explored pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecipe:
    """What "auto" means to a run from files."""

    rank: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    temperature: float = 0.05
    in_batch_share: float = 0.1
    """As QueryMapRecipe; 1 where lines have no negatives of their own."""
    beta: float = 0.1
    batch: int = 32
    epochs: int = 20
    patience: int = 4
    """Epochs without a smaller loss on the held-out lines after which training stops."""
    others: int = 31
    """Items of other held-out lines that an anchor's own are ranked among."""
    evaluation_outcomes_max: int = 200_000
    threads: int = 1


DEFAULT_RECIPE = Recipe()
DEFAULT_FILE_RECIPE = FileRecipe()
