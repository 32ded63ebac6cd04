"""What happened in a run from files, told from its record: the same events at every call."""

import datetime
from dataclasses import dataclass

from services.scheduler.core.run import ACTIVE, LossPoint, Run, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move of a run."""

    number: int
    """From 1: being queued."""
    state: State
    attempt: int
    move_time: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """When what happened, oldest first."""

    moves: tuple[Move, ...]
    evaluations: tuple[tuple[LossPoint, datetime.datetime], ...]
    dataset_time: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event."""

    event_id: str
    create_time: datetime.datetime
    level: str
    message: str
    point: LossPoint | None = None


_SENTENCES = {
    State.QUEUED: "The run waits for a trainer.",
    State.STARTING: "A trainer has taken the run.",
    State.RUNNING: "Training has begun.",
    State.EVALUATING: "The model is measured against {base} on the held-out lines.",
    State.EXPORTING: "The model is exported.",
    State.PAUSING: "The run is to pause.",
    State.PAUSED: "The run is paused.",
    State.STOPPING: "The run is to end with what it has learned.",
    State.SUCCEEDED: "The model {model} is ready.",
    State.STOPPED: "The run was stopped; the model {model} knows what was learned until then.",
    State.CANCELLED: "The run was cancelled.",
    State.FAILED: "{failure}",
}


def run_events(run: Run, history: RunHistory) -> list[RunEvent]:
    """The events of a run, newest first."""
    told = {move: _told(run, move, history.moves) for move in history.moves}
    events = [event for move, event in told.items() if move.state in ACTIVE]
    if history.dataset_time is not None:
        events.append(_validated(run, history.dataset_time))
    events += [
        RunEvent(
            event_id=f"step-{point.step}",
            create_time=moment,
            level="info",
            message=_measured(point),
            point=point,
        )
        for point, moment in history.evaluations
    ]
    events += [event for move, event in told.items() if move.state not in ACTIVE]
    events.sort(key=lambda event: event.create_time)  # stable: equal times keep the order above
    return events[::-1]


def _told(run: Run, move: Move, moves: tuple[Move, ...]) -> RunEvent:
    assert run.job.files is not None
    source = run.job.files.source
    sentence = _SENTENCES[move.state].format(
        model=source.model,
        base=source.base_model,
        failure="" if run.failure is None else run.failure.message,
    )
    level = "error" if move.state is State.FAILED else "info"
    event_id = f"{move.state}-{move.number}"
    if move.number == 1:
        event_id, sentence = "created", "The run was created."
    elif move.state is State.QUEUED and move.attempt > moves[move.number - 2].attempt:
        level = "warn"
        sentence = f"The attempt {move.attempt - 1} was lost. The run waits for another trainer."
    return RunEvent(event_id=event_id, create_time=move.move_time, level=level, message=sentence)


def _validated(run: Run, moment: datetime.datetime) -> RunEvent:
    dataset = run.dataset
    assert dataset is not None
    message = (
        f"The files are good: {dataset.training_lines_count} training and "
        f"{dataset.validation_lines_count} validation lines ({dataset.method}), "
        f"{dataset.held_out_lines_count} of them held out."
    )
    return RunEvent(event_id="validated", create_time=moment, level="info", message=message)


def _measured(point: LossPoint) -> str:
    message = f"Step {point.step}: training loss {point.loss:.4f}"
    if point.validation_loss is None:
        return f"{message}."
    return (
        f"{message}, validation loss {point.validation_loss:.4f}, "
        f"NDCG@10 {point.validation_ndcg_at_10:.4f}."
    )
