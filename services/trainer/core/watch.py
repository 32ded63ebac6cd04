"""What the thread that learns and the loop that heartbeats tell each other."""

import enum
import threading
from dataclasses import dataclass

from services.trainer.core.errors import LeaseLostError, RunCancelledError


class Phase(enum.Enum):
    """What a trainer may be doing."""

    STARTING = "starting"
    RUNNING = "running"
    EVALUATING = "evaluating"
    EXPORTING = "exporting"


@dataclass(frozen=True, slots=True)
class LossPoint:
    """One evaluation during training."""

    stage: str
    step: int
    loss: float
    validation_ndcg_at_10: float
    validation_loss: float | None = None
    """Told of runs from files with held-out lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDataset:
    """What the files of a run hold."""

    training_lines_count: int
    validation_lines_count: int
    held_out_lines_count: int
    items_count: int
    tokens_count: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model as files: a query map, and the vectors that prove it."""

    query_map: bytes
    golden: bytes
    encoder: str
    dim: int
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    """What the map of its base reads of a person: name, type and members."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as it was after some steps, in the artifact store."""

    point: LossPoint
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a heartbeat tells."""

    phase: Phase
    steps_done_count: int
    steps_count: int
    loss_points: tuple[LossPoint, ...]
    snapshot_digest: str
    checkpoint_digest: str
    dataset: FileDataset | None = None
    models: tuple[StoredModel, ...] = ()


class Watch:
    """Progress one way, orders the other. Safe to use from both threads.

    An order to drop the run is met at every sign of life. Orders to pause or to stop wait for the
    end of a step: what the step brought is part of what is kept.
    """

    def __init__(self, snapshot_digest: str, checkpoint_digest: str) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.STARTING
        self._steps = (0, 0)
        self._points: list[LossPoint] = []
        self._snapshot_digest = snapshot_digest
        self._checkpoint_digest = checkpoint_digest
        self._checkpoint: bytes | None = None
        self._dataset: FileDataset | None = None
        self._models: list[tuple[LossPoint, ModelFiles]] = []
        self._stored: list[StoredModel] = []
        self._stop: type[Exception] | None = None
        self._pausing = False
        self._stopping = False

    def enter(self, phase: Phase) -> None:
        """Says what is being done now."""
        self.check()
        with self._lock:
            self._phase = phase

    def step(self, done: int, count: int) -> None:
        """Says how far training is.

        Raises:
            LeaseLostError, RunCancelledError: as `check`.
        """
        self.check()
        self._steps = (done, count)

    def add_point(self, point: LossPoint) -> None:
        """Adds to the loss curve."""
        with self._lock:
            self._points.append(point)

    def offer_checkpoint(self, content: bytes) -> None:
        """Offers a checkpoint; the latest is stored with the next heartbeat."""
        with self._lock:
            self._checkpoint = content

    def offer_model(self, point: LossPoint, files: ModelFiles) -> None:
        """Offers the model as it is after a step; it is stored with the next heartbeat."""
        with self._lock:
            self._models.append((point, files))

    def check(self) -> None:
        """Stops the thread that learns, if it is to stop.

        Raises:
            LeaseLostError: another trainer may hold the run.
            RunCancelledError: the run was called off.
        """
        if self._stop is not None:
            raise self._stop

    def stop(self, reason: type[LeaseLostError] | type[RunCancelledError]) -> None:
        """Orders the thread that learns to stop."""
        self._stop = reason

    def ask_pause(self) -> None:
        """Orders a checkpoint after the next step, and nothing after it."""
        self._pausing = True

    def ask_stop(self) -> None:
        """Orders the end of training after the next step."""
        self._stopping = True

    @property
    def pausing(self) -> bool:
        """Whether the step that has just been done is to be the last for now."""
        return self._pausing

    @property
    def stopping(self) -> bool:
        """Whether training is to end with what it has learned."""
        return self._stopping

    def set_snapshot(self, digest: str) -> None:
        """Says what is trained on."""
        self._snapshot_digest = digest

    def set_dataset(self, dataset: FileDataset) -> None:
        """Says what the files hold."""
        self._dataset = dataset

    def next_model(self) -> tuple[LossPoint, ModelFiles] | None:
        """The oldest model that is to be stored, if there is one."""
        with self._lock:
            return self._models[0] if self._models else None

    def set_model(self, stored: StoredModel) -> None:
        """Says where the oldest model is stored."""
        with self._lock:
            del self._models[0]
            self._stored.append(stored)

    def set_checkpoint(self, digest: str) -> None:
        """Says where to resume."""
        self._checkpoint_digest = digest

    def take_checkpoint(self) -> bytes | None:
        """Takes the checkpoint that is to be stored, if there is one."""
        with self._lock:
            content, self._checkpoint = self._checkpoint, None
        return content

    def put_back_checkpoint(self, content: bytes) -> None:
        """Puts back one that could not be stored, unless a newer one has come."""
        with self._lock:
            if self._checkpoint is None:
                self._checkpoint = content

    def report(self) -> Report:
        """What to tell with the next heartbeat. Loss points are told again until `told`."""
        with self._lock:
            return Report(
                self._phase,
                *self._steps,
                tuple(self._points),
                self._snapshot_digest,
                self._checkpoint_digest,
                self._dataset,
                tuple(self._stored),
            )

    def told(self, report: Report) -> None:
        """Notes that a report has arrived."""
        with self._lock:
            self._points = self._points[len(report.loss_points) :]
            self._stored = self._stored[len(report.models) :]
