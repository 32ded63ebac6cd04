"""A run and the states it may go through.

queued → starting → running → evaluating → exporting → succeeded
   │         ├─────────┼─→ stopping → stopped: judged and exported with what was learned so far
   │         ├─────────┴─→ pausing → paused → queued: the same attempt goes on from its checkpoint
   │     lease lost, retriable failure → queued (attempt + 1), until the attempts are spent → failed
   └──── cancelled: from every state that is not an end
"""

import datetime
import enum
import re
from dataclasses import dataclass, field

from services.scheduler.core.file_source import FileDataset, FileJob, FileResult
from services.scheduler.core.head import DOMAIN_TIER, MODEL_TIER, SHARED, TENANT_TIER
from services.scheduler.core.verdict import Verdict

ATTEMPTS_MAX = 3
_RUN_ID = re.compile(r"tr_(\d{4})_(\d{2})_(\d{2})_(\d{3,})")


class State(enum.StrEnum):
    """Where a run stands; the values are what the native API shows."""

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


_PHASES = (State.STARTING, State.RUNNING, State.EVALUATING, State.EXPORTING)

LEASED = frozenset({*_PHASES, State.PAUSING, State.STOPPING})
"""A trainer holds the run."""

ACTIVE = LEASED | {State.QUEUED, State.PAUSED}
"""The run has not ended; a domain has at most one such run, runs from files apart."""

_TRAINING = frozenset({State.STARTING, State.RUNNING})
"""There is something left to pause or to stop."""

MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING, State.PAUSED, State.CANCELLED}),
    **{
        phase: frozenset(
            {*_PHASES[index + 1 :], State.QUEUED, State.CANCELLED, State.FAILED, State.SUCCEEDED}
        )
        | ({State.PAUSING, State.STOPPING} if phase in _TRAINING else set())
        for index, phase in enumerate(_PHASES)
    },
    State.PAUSING: frozenset({State.PAUSED, State.CANCELLED, State.FAILED, State.SUCCEEDED}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    State.STOPPING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED, State.STOPPED}),
    State.SUCCEEDED: frozenset(),
    State.STOPPED: frozenset(),
    State.CANCELLED: frozenset(),
    State.FAILED: frozenset(),
}
"""Every legal move. A trainer may report phases late, so it may skip some."""


AGE_MAX: dict[State, datetime.timedelta] = {
    State.QUEUED: datetime.timedelta(days=1),
    State.STARTING: datetime.timedelta(hours=1),
    State.RUNNING: datetime.timedelta(days=7),
    State.EVALUATING: datetime.timedelta(days=1),
    State.EXPORTING: datetime.timedelta(hours=1),
    State.PAUSING: datetime.timedelta(hours=1),
    State.PAUSED: datetime.timedelta(days=90),
    State.STOPPING: datetime.timedelta(days=1),
}
"""How long a run may be in a state before somebody has to look: no trainer came, or one beats its
heart and gets nowhere."""


class Trigger(enum.StrEnum):
    """Why a job exists."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"
    SCHEDULED = "scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The wish to train a domain as of a revision, or from files; never changes."""

    tenant: str
    domain: str
    """Empty for a job from files."""
    trigger: Trigger
    forced: bool
    revision: int
    triplets_count: int
    seed: int
    files: FileJob | None = None

    @property
    def tier(self) -> str:
        """The tier that the head will serve."""
        if self.files is not None:
            return MODEL_TIER
        return DOMAIN_TIER if self.tenant == SHARED else TENANT_TIER

    @property
    def model(self) -> str:
        """Name of the model that a job from files asks for; empty for a job of a domain."""
        return "" if self.files is None else self.files.source.model


@dataclass(frozen=True, slots=True)
class LossPoint:
    """One evaluation during training."""

    step: int
    loss: float
    validation_ndcg_at_10: float
    stage: str
    validation_loss: float | None = None
    """None for a run of a domain, and where nothing is held out."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed."""

    reason: str
    message: str
    retriable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The execution of a job."""

    job: Job
    run_id: str
    state: State
    create_time: datetime.datetime
    attempt: int = 0
    """From 1 on once a trainer has taken the run."""
    token: int = 0
    """Fencing token of the last lease."""
    incumbent: str = ""
    """Head in use when the last lease began; empty for the encoder alone."""
    prior: str = ""
    """Domain head that the run starts from since its first lease; empty for none."""
    snapshot_digest: str = ""
    checkpoint_digest: str = ""
    steps_done_count: int = 0
    steps_count: int = 0
    loss_curve: tuple[LossPoint, ...] = field(default=())
    head: str = ""
    verdict: Verdict | None = None
    failure: Failure | None = None
    stop_requested: bool = False
    dataset: FileDataset | None = None
    """What the files of a run from files hold, once they have been read."""
    result: FileResult | None = None
    """What came of a run from files."""
    start_time: datetime.datetime | None = None
    end_time: datetime.datetime | None = None


def attempt_after(run: Run, state: State) -> int:
    """The attempt that a run is in once it has moved: lost to the queue, it is the next one's."""
    return run.attempt + (run.state in LEASED and state is State.QUEUED)


def run_id_of(day: datetime.date, number: int) -> str:
    """The id of a tenant's n-th run of a day, such as "tr_2026_05_17_001"."""
    return f"tr_{day:%Y_%m_%d}_{number:03d}"


def head_of(job: Job, run_id: str) -> str:
    """The version of the head that a run makes, such as "u_acme.dating.2026-05-17.001".

    That of a shared domain names no tenant: "dating.2026-05-17.001". A run from files makes the
    model that was asked for.
    """
    if job.files is not None:
        return job.model
    match = _RUN_ID.fullmatch(run_id)
    assert match, run_id
    year, month, day, number = match.groups()
    owner = "" if job.tier == DOMAIN_TIER else f"u_{job.tenant}."
    return f"{owner}{job.domain}.{year}-{month}-{day}.{number}"
