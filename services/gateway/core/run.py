"""A run from files as the scheduler tells it. What becomes of a job is the run's word alone."""

import datetime
import enum
from dataclasses import dataclass, field


class RunState(enum.StrEnum):
    """Where a run stands, in the scheduler's words."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    EVALUATING = "evaluating"
    EXPORTING = "exporting"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    FAILED = "failed"


MADE = frozenset({RunState.SUCCEEDED, RunState.STOPPED})
"""Of a run that has made its model."""


class Verb(enum.Enum):
    """What may be done to a run."""

    CANCEL = enum.auto()
    PAUSE = enum.auto()
    RESUME = enum.auto()
    STOP = enum.auto()


class Method(enum.StrEnum):
    """How a model is learned."""

    AUTO = ""
    """As the lines tell."""
    SUPERVISED = "supervised"
    DPO = "dpo"
    TRIPLET = "triplet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What may be chosen; None leaves it to the recipe."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class InputFile:
    """Bytes to learn from."""

    digest: str
    bytes_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a run is asked to do. The same wish makes the same run, and one run only."""

    training_file: InputFile
    validation_file: InputFile | None
    base_model: str
    model: str
    """Name that the model will have."""
    method: Method = Method.AUTO
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    seed: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run beside its model."""

    digest: str
    bytes_count: int
    trained_tokens_count: int
    hyperparameters: Hyperparameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run."""

    run_id: str
    state: RunState
    method: Method = Method.AUTO
    """How it learns, once its files have been read."""
    files_read: bool = False
    """Whether its files were found good: from then on its data are frozen."""
    minutes_left: int = 0
    start_time: datetime.datetime | None = None
    """When a trainer first took it."""
    end_time: datetime.datetime | None = None
    failure: Failure | None = None
    result: RunResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an evaluation measured."""

    step: int
    training_loss: float
    validation_loss: float | None
    validation_ndcg_at_10: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run."""

    event_id: str
    create_time: datetime.datetime
    level: str
    message: str
    measured: Measured | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model as it was after some steps."""

    model: str
    create_time: datetime.datetime
    measured: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a tenant may name."""

    model: str
    owner: str
    """The tenant, or who owns shared domains; nobody owns the encoder alone."""
    create_time: datetime.datetime | None
