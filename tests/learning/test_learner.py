"""A run from snapshot to head: what it learns, that it repeats itself, that it can be resumed."""

import dataclasses
import json
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from services.trainer.core.errors import RunCancelledError
from services.trainer.core.ports import LearnedHead
from services.trainer.core.recipe import DEFAULT_RECIPE, CrossRecipe, QueryMapRecipe, Recipe
from services.trainer.core.watch import Watch
from services.trainer.learning import package
from services.trainer.learning.export import export_onnx
from services.trainer.learning.journal import Journal
from services.trainer.learning.learner import TorchLearner
from services.trainer.learning.light import LightModel
from services.trainer.learning.onnx_head import OnnxHead
from services.trainer.learning.package import ParityError
from tests.support.snapshots import COLUMNS, pack, snapshot

SHORT = dataclasses.replace(
    DEFAULT_RECIPE, cross=CrossRecipe(epochs=4), query_map=QueryMapRecipe(epochs=3)
)


def learn(
    content: bytes, watch: Watch | None = None, recipe: Recipe = SHORT, **options: Any
) -> LearnedHead:
    """A whole run on the CPU."""
    arguments: dict[str, Any] = {"incumbent": None, "checkpoint": None, "seed": 0} | options
    watch = watch or Watch("", "")
    return TorchLearner("cpu", recipe).learn(content, watch=watch, **arguments)


@cache
def learned(**options: Any) -> LearnedHead:
    """A whole run on a snapshot, once for all who look at what comes of it."""
    return learn(snapshot(**options))


class Auc(NamedTuple):
    """How well both heads rank the held-out outcomes."""

    challenger: float
    incumbent: float


def auc(head: LearnedHead) -> Auc:
    """Areas under the ROC curves."""
    evaluation = head.evaluation
    yes = evaluation.levels >= 2

    def area(scores: np.ndarray) -> float:
        return float((scores[yes][:, None] > scores[~yes]).mean())

    return Auc(area(evaluation.challenger_scores), area(evaluation.incumbent_scores))


def test_a_head_learns_who_pleases_whom() -> None:
    found = auc(learn(snapshot(people=150, partners=16)))
    assert found.challenger > 0.72
    assert abs(found.incumbent - 0.5) < 0.1  # cosines of made-up vectors know nothing


def test_taste_that_features_cannot_add_up_is_learned_by_the_cross_stage() -> None:
    content = snapshot(people=200, partners=24, taste=2.5, seed=4)
    with_cross = learn(content, recipe=DEFAULT_RECIPE)
    without = learn(
        content, recipe=dataclasses.replace(DEFAULT_RECIPE, cross=CrossRecipe(epochs=0))
    )
    assert auc(with_cross).challenger > auc(without).challenger + 0.01


@pytest.mark.parametrize("textless", [5, 60])
def test_people_without_a_text_keep_nobody_from_learning(textless: int) -> None:
    content, watch = snapshot(people=60, partners=12, textless=textless), Watch("", "")
    arrays, head = load(content), OnnxHead(learn(content, watch).files)
    assert np.isfinite([point.loss for point in watch.report().loss_points]).all()
    for person in (0, 10):
        query = head.map_query(
            arrays["columns"][[person]], arrays["vectors"][[person]].astype(np.float32)
        )
        assert np.isfinite(query).all()


def test_the_next_head_is_measured_against_the_one_in_use() -> None:
    content = snapshot(people=120, partners=16)
    second = learn(content, incumbent=learned(people=120, partners=16).files)
    assert second.evaluation.incumbent_calibrated
    found = second.evaluation
    # Learned from the same, it is as good: it must not know what the gate asks.
    assert np.allclose(found.incumbent_scores, found.challenger_scores, atol=1e-4)


def test_the_head_learns_from_everything_and_its_twins_from_less() -> None:
    outcomes = len(load(snapshot(people=120, partners=16))["seekers"])
    found = learned(people=120, partners=16)
    assert found.outcomes_count == outcomes
    assert len(found.files.twins) == DEFAULT_RECIPE.gate_folds
    assert all(0.7 * outcomes <= twin.outcomes_count < outcomes for twin in found.files.twins)
    assert 0.9 < found.twins_agreement < 1
    assert found.files.person not in {twin.person for twin in found.files.twins}


def test_of_many_outcomes_one_twin_is_asked_about_the_last() -> None:
    content = snapshot(people=120, partners=16)
    outcomes = len(load(content)["seekers"])
    found = learn(content, recipe=dataclasses.replace(SHORT, twins_outcomes_max=outcomes - 1))
    assert [twin.outcomes_count for twin in found.files.twins] == [int(0.85 * outcomes)]
    assert len(found.evaluation.levels) == outcomes - int(0.85 * outcomes)
    assert found.outcomes_count == outcomes


def test_a_head_unlike_its_twins_is_not_given() -> None:
    content = snapshot(people=120, partners=16)
    outcomes = len(load(content)["seekers"])
    found = learn(content, recipe=dataclasses.replace(SHORT, agreement_min=1.0))
    assert found.files.twins == ()
    assert found.outcomes_count == int(0.7 * outcomes)


def test_the_head_in_use_is_asked_by_its_twins_who_have_not_seen_the_answers() -> None:
    content = snapshot(people=120, partners=16)
    first, other = learned(people=120, partners=16), learned(people=120, partners=16, seed=9)
    mixed = dataclasses.replace(first.files, person=other.files.person, cross=other.files.cross)
    asked, same = (learn(content, incumbent=files).evaluation for files in (mixed, first.files))
    assert np.array_equal(asked.incumbent_scores, same.incumbent_scores)
    alone = learn(content, incumbent=dataclasses.replace(mixed, twins=())).evaluation
    assert not np.allclose(alone.incumbent_scores, same.incumbent_scores, atol=1e-2)


def test_an_incumbent_of_another_schema_is_read_by_names() -> None:
    first = learn(snapshot(people=80, columns=COLUMNS[:2]))
    turned = [COLUMNS[1], COLUMNS[0], *COLUMNS[2:]]
    second = learn(snapshot(people=100, columns=turned), incumbent=first.files)
    assert np.isfinite(second.evaluation.incumbent_scores).all()


def test_the_same_run_gives_the_same_bytes() -> None:
    first, second = learned(), learn(snapshot())
    assert first.files == second.files
    assert first.golden == second.golden


def test_the_order_in_which_people_came_changes_no_rank() -> None:
    content = snapshot(people=100, partners=16, taste=2.0)
    arrays = load(content)
    order = np.random.default_rng(1).permutation(100)
    place = np.argsort(order)
    tensors = {name: arrays[name][order] for name in ("columns", "vectors", "user_hashes")}
    rows = np.lexsort((place[arrays["candidates"]], place[arrays["seekers"]]))
    tensors |= {who: place[arrays[who]][rows].astype(np.int32) for who in ("seekers", "candidates")}
    tensors |= {name: arrays[name][rows] for name in ("levels", "outcome_weights", "times")}
    moved = np.argsort(rows)[arrays["triplets"][:, 1:]]
    anchors = place[arrays["triplets"][:, :1]]
    triplets = np.concatenate([anchors, moved], axis=1).astype(arrays["triplets"].dtype)
    sorting = np.lexsort((triplets[:, 2], triplets[:, 1]))
    tensors |= {
        "triplets": triplets[sorting],
        "triplet_weights": arrays["triplet_weights"][sorting],
    }
    layout = json.dumps({"encoder": "test", "rule_version": "1", "columns": COLUMNS})
    kept = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    plain, turned = learn(content), learn(save(kept, metadata={"layout": layout}))
    ours, theirs = (OnnxHead(head.files) for head in (plain, turned))
    tables = [load(head.files.table)["table"] for head in (plain, turned)]
    counts = np.ones((100, 4), np.float32)
    states = ours.describe(arrays["columns"], counts, tables[0])
    assert np.allclose(tables[1], tables[0][order], atol=1e-4)
    found = theirs.describe(tensors["columns"], counts, tables[1])[place]
    cosines = np.zeros((99, 1), np.float32)
    expected, scores = (
        head.score_cross(known[:1], known[1:], cosines)
        for head, known in ((ours, states), (theirs, found))
    )
    assert np.allclose(scores, expected, atol=1e-4)


def test_another_seed_or_snapshot_gives_another_head() -> None:
    taste: dict[str, Any] = {"people": 200, "partners": 24, "taste": 2.5, "seed": 4}
    recipe = dataclasses.replace(SHORT, patience=50)
    first = learn(snapshot(**taste), recipe=recipe)
    assert learn(snapshot(**taste), recipe=recipe, seed=1).files != first.files
    assert learn(snapshot(), recipe=recipe).files != first.files


class InterruptingWatch(Watch):
    """Stops the run after so many steps, and keeps the checkpoint of that moment."""

    def __init__(self, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("", "")
        self._left = steps
        self.checkpoint: bytes | None = None
        plain = Journal.step

        def step(journal: Journal, *arguments: Any) -> None:
            plain(journal, *arguments)
            self._left -= 1
            if self._left == 0:
                self.checkpoint = journal.to_bytes()
                raise RunCancelledError

        monkeypatch.setattr(Journal, "step", step)


def test_a_run_interrupted_after_any_step_ends_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = snapshot(people=60, partners=12, taste=2.0, seed=2)
    whole_watch = Watch("", "")
    whole = learn(content, whole_watch)
    steps = whole_watch.report().steps_done_count
    assert steps > 20
    for interrupted_after in range(1, steps + 1, 7):
        with monkeypatch.context() as patch:
            watch = InterruptingWatch(interrupted_after, patch)
            with pytest.raises(RunCancelledError):
                learn(content, watch)
        assert watch.checkpoint is not None
        resumed_watch = Watch("", "")
        resumed = learn(content, resumed_watch, checkpoint=watch.checkpoint)
        assert resumed.files == whole.files, f"after step {interrupted_after}"
        assert resumed_watch.report().steps_done_count == steps


def test_a_run_tells_its_progress_and_its_loss_curve() -> None:
    watch = Watch("", "")
    learn(snapshot(), watch)
    report = watch.report()
    assert report.phase.value == "exporting"
    assert 0 < report.steps_done_count <= report.steps_count
    stages = {point.stage for point in report.loss_points}
    assert stages == {"light_ml", "cross_encoder", "embedding"}
    light = [point.loss for point in report.loss_points if point.stage == "light_ml"]
    assert light[-1] < np.log(2)
    assert all(0 <= point.validation_ndcg_at_10 <= 1 for point in report.loss_points)


def test_an_order_to_stop_stops_the_run() -> None:
    watch = Watch("", "")
    watch.stop(RunCancelledError)
    with pytest.raises(RunCancelledError):
        learn(snapshot(), watch)


def test_golden_vectors_are_what_the_exported_parts_give() -> None:
    head = learned()
    golden, files = load(head.golden), OnnxHead(head.files)
    states = files.describe(golden["columns"], golden["counts"], golden["table"])
    assert np.array_equal(states, golden["states"])
    pair = (states[:1], states[1:], golden["cosines"])
    assert np.array_equal(files.score_cross(*pair), golden["cross"])
    assert golden["query"].shape == (1, 16)
    assert np.linalg.norm(golden["query"]) == pytest.approx(1, abs=1e-5)


def test_an_export_that_computes_something_else_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = export_onnx

    def shifted(module: torch.nn.Module, *arguments: Any) -> bytes:
        """Exports the linear stage as it would be with a slightly other intercept."""
        if not isinstance(module, LightModel):
            return plain(module, *arguments)
        module.shift += 0.05
        content = plain(module, *arguments)
        module.shift -= 0.05
        return content

    monkeypatch.setattr(package, "export_onnx", shifted)
    with pytest.raises(ParityError):
        learn(snapshot())


def test_a_person_is_ranked_without_their_own_held_out_outcomes() -> None:
    """Turning around what somebody gave and received changes only how others are ranked."""
    recipe = dataclasses.replace(SHORT, cross=CrossRecipe(epochs=0))
    arrays = load(snapshot(people=100, partners=16))
    seconds = arrays["times"] // 1_000_000
    gate = seconds >= int(len(seconds) * 0.70)
    someone = int(arrays["seekers"][gate][0])
    theirs = gate & ((arrays["seekers"] == someone) | (arrays["candidates"] == someone))
    turned = np.where(theirs, 2 - arrays["levels"], arrays["levels"]).astype(np.int8)
    before, after = (
        learn(
            pack(
                arrays["columns"],
                arrays["vectors"],
                arrays["seekers"],
                arrays["candidates"],
                levels,
                seconds=seconds,
                columns=COLUMNS,
            ),
            recipe=recipe,
        ).evaluation
        for levels in (arrays["levels"], turned)
    )
    assert len(before.levels) == gate.sum()
    assert np.array_equal(before.seekers, after.seekers)
    own = before.seekers == someone
    assert np.array_equal(before.levels[own], 2 - after.levels[own])
    assert np.array_equal(before.challenger_scores[own], after.challenger_scores[own])
    assert not np.array_equal(before.challenger_scores[~own], after.challenger_scores[~own])


EDGES: dict[str, dict[str, Any]] = {
    "no columns": {"columns": []},
    "numbers alone": {"columns": COLUMNS[:2]},
    "an enum alone": {"columns": COLUMNS[3:]},
    "all positive": {"positive": 1.0},
    "none positive": {"positive": 0.0},
    "three people": {"people": 3, "partners": 2},
    "ten people": {"people": 10, "partners": 4},
}


@pytest.mark.parametrize("name", EDGES)
def test_a_domain_at_the_edge_gives_a_head_all_the_same(name: str) -> None:
    head = learn(snapshot(**EDGES[name]))
    assert np.isfinite(head.evaluation.challenger_scores).all()
    golden = load(head.golden)
    assert np.isfinite(golden["cross"]).all()
    assert np.isfinite(golden["query"]).all()
