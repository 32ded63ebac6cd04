"""Models learned from files: better than their base, the same every time, and honest about it."""

import asyncio
import csv
import io

import numpy as np
import pytest
from safetensors.numpy import load

from services.scheduler.core.verdict import Evaluation, Verdict, judge
from services.trainer.core.errors import RunInvalidError, RunPausedError
from services.trainer.core.ports import BaseModel, FileWish, Hyperparameters, LearnedModel
from services.trainer.core.watch import Watch
from services.trainer.learning.file_learner import TorchFileLearner
from services.trainer.learning.learner import TorchLearner
from services.trainer.learning.model_package import OnnxMap
from tests.support.file_snapshots import DIM, file_snapshot
from tests.support.snapshots import snapshot

FORMS = ("triplet", "preference", "chat")


def frozen(**changes: object) -> bytes:
    return asyncio.run(file_snapshot(**changes))  # type: ignore[arg-type]  # one keyword each


def learn(
    content: bytes,
    base: BaseModel | None = None,
    checkpoint: bytes | None = None,
    watch: Watch | None = None,
    **chosen: float,
) -> LearnedModel:
    wish = FileWish(
        training_file_digest="1" * 64,
        validation_file_digest="",
        method="",
        hyperparameters=Hyperparameters(**chosen),  # type: ignore[arg-type]  # by name
    )
    watch = watch or Watch("", "")
    return TorchFileLearner("cpu").learn(content, base, checkpoint, wish, seed=3, watch=watch)


def base_of(model: LearnedModel) -> BaseModel:
    files = model.files
    return BaseModel(query_map=files.query_map, encoder=files.encoder, dim=files.dim, columns=())


def verdict(model: LearnedModel) -> Verdict:
    evaluation = model.evaluation
    return judge(
        Evaluation(
            seekers=evaluation.seekers,
            levels=evaluation.levels,
            challenger_scores=evaluation.challenger_scores.astype(np.float64),
            incumbent_scores=evaluation.incumbent_scores.astype(np.float64),
            incumbent_calibrated=False,
        ),
        "general",
        seed=0,
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_model_beats_its_base_on_held_out_lines(form: str) -> None:
    watch = Watch("", "")
    model = learn(frozen(form=form, anchors=400, held_out=80), watch=watch)
    said = verdict(model)
    assert said.seekers_count == 80
    assert said.ndcg_at_10_gain.low > 0.05, said
    points = watch.report().loss_points
    assert points[-1].validation_loss is not None
    assert points[-1].validation_loss < (points[0].validation_loss or 0)


def test_the_same_lines_give_the_same_bytes() -> None:
    content = frozen()
    first, second = learn(content), learn(content)
    assert first.files == second.files
    assert first.result_file == second.result_file


@pytest.mark.parametrize("steps", [1, 9])
def test_a_pause_leaves_no_trace_in_the_model(steps: int) -> None:
    content = frozen()

    class Pausing(Watch):
        def step(self, done: int, count: int) -> None:
            super().step(done, count)
            if done >= steps:
                self.ask_pause()

    paused = Pausing("", "")
    with pytest.raises(RunPausedError):
        learn(content, watch=paused)
    checkpoint = paused.take_checkpoint()
    whole, resumed = learn(content), learn(content, checkpoint=checkpoint)
    assert (resumed.files, resumed.result_file) == (whole.files, whole.result_file)
    assert resumed.evaluation.challenger_scores.tolist() == (
        whole.evaluation.challenger_scores.tolist()
    )


def test_a_checkpoint_of_another_recipe_is_none() -> None:
    class Pausing(Watch):
        def step(self, done: int, count: int) -> None:
            super().step(done, count)
            self.ask_pause()

    content, paused = frozen(), Pausing("", "")
    with pytest.raises(RunPausedError):
        learn(content, watch=paused)
    whole = learn(content, batch_size=16)
    resumed = learn(content, checkpoint=paused.take_checkpoint(), batch_size=16)
    assert (resumed.files, resumed.result_file) == (whole.files, whole.result_file)


def test_a_stop_keeps_what_was_learned() -> None:
    class Stopping(Watch):
        def step(self, done: int, count: int) -> None:
            super().step(done, count)
            self.ask_stop()

    model = learn(frozen(), watch=Stopping("", ""), n_epochs=9)
    assert model.hyperparameters.n_epochs == 1
    assert len(model.result_file.splitlines()) == 2


def test_hyperparameters_are_honoured_and_told() -> None:
    content = frozen(anchors=100, held_out=20)
    watch = Watch("", "")
    model = learn(content, watch=watch, n_epochs=3, batch_size=10, learning_rate_multiplier=0.5)
    assert model.hyperparameters == Hyperparameters(
        n_epochs=3, batch_size=10, learning_rate_multiplier=0.5
    )
    assert [point.step for point in watch.report().loss_points] == [8, 16, 24]
    assert model.trained_tokens_count == 3 * 80 * 6
    assert model.recipe["learning_rate"] == pytest.approx(1.5e-3)
    assert learn(content, n_epochs=3).files != model.files


def test_beta_holds_a_model_to_its_base() -> None:
    content = frozen(form="preference")
    moved = []
    for beta in (0.05, 2.0):
        model = learn(content, n_epochs=10, beta=beta)
        assert model.hyperparameters.beta == beta
        golden = load(model.files.golden)
        moved.append(float((golden["query"] * golden["vectors"]).sum(1).mean()))
    assert moved[1] > moved[0], "the larger beta stays closer"


def test_ten_lines_and_nothing_held_out_are_enough() -> None:
    watch = Watch("", "")
    model = learn(frozen(anchors=10, held_out=0), watch=watch)
    assert model.hyperparameters.n_epochs == 20
    assert {point.validation_loss for point in watch.report().loss_points} == {None}
    assert verdict(model).seekers_count == 0
    rows = list(csv.DictReader(io.StringIO(model.result_file.decode())))
    assert (len(rows), rows[0]["valid_loss"], rows[0]["step"]) == (20, "", "1")


@pytest.mark.parametrize("form", FORMS)
def test_one_line_is_learned_from(form: str) -> None:
    assert learn(frozen(anchors=1, held_out=0, form=form)).files.query_map


def test_each_epoch_leaves_a_model_that_proves_itself() -> None:
    watch = Watch("", "")
    learn(frozen(), watch=watch, n_epochs=2)
    point, files = watch.next_model() or (None, None)
    assert point is not None
    assert files is not None
    golden = load(files.golden)
    assert point.step == 3
    assert np.allclose(OnnxMap(files.query_map).run(golden["vectors"]), golden["query"], atol=1e-6)


def test_a_model_goes_on_from_another() -> None:
    first = learn(frozen(anchors=400, held_out=80))
    base = base_of(first)
    content = frozen(anchors=60, held_out=30, seed=5)
    second = learn(content, base=base, n_epochs=1, learning_rate_multiplier=0.01)
    golden = load(second.files.golden)
    before = OnnxMap(base.query_map).run(golden["vectors"])
    assert np.allclose(before, golden["query"], atol=0.05), "one small step from where it began"
    alone = learn(content, n_epochs=1, learning_rate_multiplier=0.01)
    gains = [verdict(model).challenger_quality.ndcg_at_10.mid for model in (second, alone)]
    assert gains[0] > gains[1]
    third = learn(content, base=base_of(second))
    assert len(third.files.query_map) > len(second.files.query_map)


def test_a_model_goes_on_from_the_head_of_a_domain() -> None:
    head = TorchLearner("cpu").learn(
        snapshot(people=80, partners=12, taste=2.0, seed=2), None, None, 0, Watch("", "")
    )
    columns = head.files.columns
    assert columns
    base = BaseModel(
        query_map=head.files.query_map, encoder="test", dim=head.files.dim, columns=columns
    )
    content = asyncio.run(file_snapshot(dim=head.files.dim))
    model = learn(content, base=base, n_epochs=1)
    golden = load(model.files.golden)
    assert np.isnan(golden["columns"]).all()
    assert golden["columns"].shape[1] == len(columns)
    assert model.files.columns == tuple((c.name, c.type, c.members) for c in columns)


def test_a_base_that_reads_other_vectors_ends_the_run_for_good() -> None:
    base = BaseModel(query_map=b"", encoder="caller", dim=DIM, columns=())
    with pytest.raises(RunInvalidError, match="reads vectors of caller") as caught:
        learn(frozen(anchors=4, held_out=0), base=base)
    assert caught.value.reason == "BASE_MODEL_INVALID"


def test_heavier_lines_pull_more() -> None:
    light, heavy = (learn(frozen(held_out=0, heavy=heavy), n_epochs=2) for heavy in (0, 20))
    assert light.files.query_map != heavy.files.query_map
    alike = learn(frozen(held_out=0, heavy=120), n_epochs=2)
    assert alike.files.query_map == light.files.query_map, "lines that weigh alike"
