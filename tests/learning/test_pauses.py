"""Runs that are paused or stopped: what is kept, and that a pause leaves no trace in the head."""

import dataclasses
from importlib import metadata
from typing import Any

import numpy as np
import pytest

from services.trainer.core.errors import RunPausedError
from services.trainer.core.ports import LearnedHead
from services.trainer.core.recipe import DEFAULT_RECIPE, CrossRecipe, QueryMapRecipe
from services.trainer.core.watch import Watch
from services.trainer.learning.journal import Journal
from services.trainer.learning.learner import TorchLearner
from tests.support.snapshots import snapshot

SHORT = dataclasses.replace(
    DEFAULT_RECIPE, cross=CrossRecipe(epochs=6), query_map=QueryMapRecipe(epochs=3)
)
CONTENT = snapshot(people=80, partners=12, taste=2.0, seed=2)


class OrderingWatch(Watch):
    """Gives an order once so many steps are done."""

    def __init__(self, order: str, steps: int) -> None:
        super().__init__("", "")
        self._order = (order, steps)

    def step(self, done: int, count: int) -> None:
        super().step(done, count)
        order, steps = self._order
        if done >= steps:
            {"pause": self.ask_pause, "stop": self.ask_stop}[order]()


def learn(watch: Watch | None = None, checkpoint: bytes | None = None) -> LearnedHead:
    """A whole run on the CPU."""
    return TorchLearner("cpu", SHORT).learn(CONTENT, None, checkpoint, 0, watch or Watch("", ""))


@pytest.fixture(scope="module")
def whole() -> tuple[LearnedHead, int]:
    """A run that nobody interrupted, and its steps."""
    watch = Watch("", "")
    return learn(watch), watch.report().steps_done_count


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_run_that_was_paused_ends_with_the_same_bytes(
    whole: tuple[LearnedHead, int], share: float
) -> None:
    head, steps = whole
    paused = OrderingWatch("pause", 1 + int(share * steps))
    with pytest.raises(RunPausedError):
        learn(paused)
    assert paused.report().steps_done_count == 1 + int(share * steps)
    checkpoint = paused.take_checkpoint()
    assert checkpoint is not None
    resumed = learn(checkpoint=checkpoint)
    assert resumed.files == head.files
    assert resumed.golden == head.golden
    assert resumed.recipe == head.recipe


def test_a_run_goes_on_from_a_checkpoint_of_its_own_release_and_recipe_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused = OrderingWatch("pause", 1)
    with pytest.raises(RunPausedError):
        learn(paused)
    checkpoint = paused.take_checkpoint()
    wider = dataclasses.replace(SHORT, cross=dataclasses.replace(SHORT.cross, hidden=24))
    assert Journal(checkpoint, Watch("", ""), 9, SHORT).steps_done == 1
    assert Journal(checkpoint, Watch("", ""), 9, wider).steps_done == 0
    monkeypatch.setattr(metadata, "version", lambda _: "0.0.0")
    assert Journal(checkpoint, Watch("", ""), 9, SHORT).steps_done == 0


def test_a_run_paused_after_every_step_comes_to_the_same_end(
    whole: tuple[LearnedHead, int],
) -> None:
    head, steps = whole
    checkpoint: bytes | None = None
    pauses = 0
    while True:
        watch = Watch("", "")
        watch.ask_pause()
        try:
            found = learn(watch, checkpoint)
            break
        except RunPausedError:
            checkpoint = watch.take_checkpoint()
            pauses += 1
    assert pauses == steps
    assert found.files == head.files


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_run_that_is_stopped_gives_a_head_of_what_it_has_learned(
    whole: tuple[LearnedHead, int], share: float
) -> None:
    head, steps = whole
    stop_at = 1 + int(share * (steps - 1))
    watch = OrderingWatch("stop", stop_at)
    stopped = learn(watch)
    assert watch.report().steps_done_count == stop_at
    assert stopped.recipe == {**head.recipe, "stopped_after_steps": stop_at}
    assert auc(stopped) > 0.55
    assert np.isfinite(stopped.evaluation.challenger_scores).all()


def test_a_stop_before_the_first_step_still_makes_a_model() -> None:
    watch = Watch("", "")
    watch.ask_stop()
    assert auc(learn(watch)) > 0.55
    assert watch.report().steps_done_count == 1


def auc(head: LearnedHead) -> float:
    """Area under the ROC curve of the challenger."""
    evaluation: Any = head.evaluation
    yes = evaluation.levels >= 2
    scores = evaluation.challenger_scores
    return float((scores[yes][:, None] > scores[~yes]).mean())
