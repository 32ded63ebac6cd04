"""What carrying out a run needs from outside."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.trainer.core.watch import FileDataset, ModelFiles, Report, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What may be chosen of how a model is learned; None leaves it to the recipe."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWish:
    """What a run from files learns from, and how."""

    training_file_digest: str
    validation_file_digest: str
    """Empty for none."""
    method: str
    """"supervised", "dpo", "triplet", or empty: as the lines tell."""
    hyperparameters: Hyperparameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedRun:
    """A run and the right to train it."""

    tenant: str
    domain: str
    run_id: str
    token: int
    lease_seconds: float
    revision: int
    snapshot_digest: str
    checkpoint_digest: str
    incumbent: str
    incumbent_manifest_digest: str
    head: str
    seed: int
    tier: str
    prior: str
    prior_manifest_digest: str
    files: FileWish | None = None
    """What a run from files is to do; None for a run of a domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPages:
    """P pages that were shown and their s slots, scored by both heads; see ExploredPages."""

    seekers: npt.NDArray[np.int32]
    explored: npt.NDArray[np.bool_]
    slot_pages: npt.NDArray[np.int32]
    ranks: npt.NDArray[np.int32]
    propensities: npt.NDArray[np.float64]
    levels: npt.NDArray[np.int32]
    challenger_scores: npt.NDArray[np.float32]
    incumbent_scores: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of n held-out outcomes, equal seekers standing together."""

    seekers: npt.NDArray[np.int32]
    levels: npt.NDArray[np.int32]
    challenger_scores: npt.NDArray[np.float32]
    incumbent_scores: npt.NDArray[np.float32]
    incumbent_calibrated: bool
    pages: ScoredPages | None = None
    """What was shown meanwhile, where the domain explores."""
    incumbent_unfit: bool = False
    """Whether the incumbent reads other columns: the scores are the encoder's alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column that a head reads of each person."""

    name: str
    type: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TwinFiles:
    """What a head's gate asked in its stead: the parts that rank, learned from fewer outcomes."""

    person: bytes
    cross: bytes
    outcomes_count: int
    """Outcomes that it learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFiles:
    """A head as files, and what it reads."""

    query_map: bytes
    person: bytes
    light: bytes
    cross: bytes
    table: bytes
    encoder: str
    dim: int
    columns: tuple[Column, ...]
    twins: tuple[TwinFiles, ...] = ()
    """One a fold of people, or one for all; none if the gate judged the head itself."""
    factors: bytes = b""
    """Vectors of candidates, where it has such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedHead:
    """What learning gives."""

    files: HeadFiles
    golden: bytes
    outcomes_count: int
    """Outcomes that the head was learned from."""
    twins_agreement: float
    """Rank correlation of the scores that the gate asked for with those of the head itself."""
    recipe: Mapping[str, object]
    rule_version: str
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """What a model made from files goes on from."""

    query_map: bytes
    encoder: str
    dim: int
    columns: tuple[Column, ...]
    """What its map reads of a person; a text has none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedModel:
    """What learning from files gives."""

    files: ModelFiles
    recipe: Mapping[str, object]
    evaluation: Evaluation
    result_file: bytes
    trained_tokens_count: int
    hyperparameters: Hyperparameters
    """As they were used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """What is handed over beside a model."""

    result_file_digest: str
    result_file_size_bytes: int
    trained_tokens_count: int
    hyperparameters: Hyperparameters


Warn = Callable[[str, Exception], None]
"""Hears of an event that went wrong and did no harm yet."""


class Learner(Protocol):
    """What learns; runs in a thread of its own for seconds to hours."""

    def learn(
        self,
        snapshot: bytes,
        incumbent: HeadFiles | None,
        checkpoint: bytes | None,
        seed: int,
        watch: Watch,
        *,
        prior: HeadFiles | None = None,
        knows_people: bool = True,
    ) -> LearnedHead:
        """Learns a head and measures it against the incumbent; None is the encoder alone.

        What little data leaves open is as in the `prior`, a domain head, if it fits. A head that
        knows no people tells nothing of single ones, and is measured so.

        The same arguments give the same bytes on the CPU, with or without a checkpoint between.
        When the watch says so, training ends early with what it has learned.

        Raises:
            RunPausedError: the watch said so; it has been offered the checkpoint to go on from.
        """
        ...


class FileLearner(Protocol):
    """What learns from files; runs in a thread of its own."""

    def learn(
        self,
        snapshot: bytes,
        base: BaseModel | None,
        checkpoint: bytes | None,
        wish: FileWish,
        *,
        seed: int,
        watch: Watch,
    ) -> LearnedModel:
        """Learns a model and measures it against its base; None is the encoder alone.

        As `Learner.learn` otherwise.

        Raises:
            RunInvalidError: the base reads other vectors, or goes back to too many others.
        """
        ...


class Directive(enum.Enum):
    """What the scheduler wants of a run next."""

    CONTINUE = enum.auto()
    CANCEL = enum.auto()
    PAUSE = enum.auto()
    STOP = enum.auto()


class Scheduler(Protocol):
    """The control plane's side of the lease."""

    async def lease(self, trainer: str) -> LeasedRun | None:
        """Takes the oldest queued run."""
        ...

    async def heartbeat(self, run: LeasedRun, report: Report) -> Directive:
        """Extends the lease and hears what to do next.

        Raises:
            LeaseLostError: the lease is another's.
        """
        ...

    async def complete(
        self,
        run: LeasedRun,
        manifest_digest: str,
        evaluation: Evaluation,
        outcome: FileOutcome | None = None,
    ) -> str:
        """Hands the head over, a model with its outcome, and returns the verdict's result.

        Raises:
            LeaseLostError: the lease is another's.
        """
        ...

    async def release(self, run: LeasedRun) -> None:
        """Gives a run back that is to pause.

        Raises:
            LeaseLostError: the lease is another's.
        """
        ...

    async def fail(self, run: LeasedRun, reason: str, message: str, *, retriable: bool) -> None:
        """Gives the attempt up.

        Raises:
            LeaseLostError: the lease is another's.
        """
        ...


class Snapshots(Protocol):
    """The triplet store's snapshots."""

    async def create(self, run: LeasedRun) -> str:
        """Freezes the run's domain as of its revision and returns the snapshot's digest."""
        ...

    async def create_from_files(self, run: LeasedRun) -> tuple[str, FileDataset]:
        """Freezes the run's files; returns the snapshot's digest and what the files hold.

        Raises:
            RunInvalidError: a file cannot be used.
        """
        ...


class HeadStore(Protocol):
    """Where heads and everything around them are kept."""

    async def read(self, digest: str) -> bytes:
        """Returns an artifact."""
        ...

    async def write(self, content: bytes) -> str:
        """Stores an artifact and returns its digest."""
        ...

    async def read_checkpoint(self, digest: str) -> bytes | None:
        """Returns a checkpoint; None if there is none, or not the one that was written.

        The run then begins anew, and comes to the same end.
        """
        ...

    async def read_head(self, manifest_digest: str) -> HeadFiles:
        """Returns the files of a head."""
        ...

    async def write_head(self, run: LeasedRun, snapshot_digest: str, head: LearnedHead) -> str:
        """Stores a head and its manifest and returns the manifest's digest."""
        ...

    async def read_base(self, manifest_digest: str) -> BaseModel:
        """Returns what a model goes on from: a head's map, or a model's."""
        ...

    async def write_model(
        self,
        run: LeasedRun,
        name: str,
        snapshot_digest: str,
        files: ModelFiles,
        *,
        recipe: Mapping[str, object],
    ) -> str:
        """Stores a model and its manifest and returns the manifest's digest."""
        ...
