"""A run from files, from snapshot to model, top to bottom: epochs of the query map."""

import csv
import dataclasses
import io
import json
import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from services.chassis.crashpoint import crashpoint
from services.chassis.tensors import read_metadata
from services.trainer.core.errors import RunPausedError
from services.trainer.core.ports import (
    BaseModel,
    Evaluation,
    FileWish,
    Hyperparameters,
    LearnedModel,
)
from services.trainer.core.recipe import DEFAULT_FILE_RECIPE, FileRecipe
from services.trainer.core.watch import LossPoint, Phase, Watch
from services.trainer.learning.evaluate import ndcg_by_seeker
from services.trainer.learning.file_arrays import FileArrays, is_positive, read_file_arrays
from services.trainer.learning.journal import (
    CHECKPOINT_SECONDS,
    made_by,
    pack_training,
    unpack_training,
)
from services.trainer.learning.model_package import map_sources, package_model
from services.trainer.learning.platt import cross_fit
from services.trainer.learning.text_map import TextMapTraining

STAGE = "embedding"
COLUMNS = ("step", "train_loss", "valid_loss", "ndcg_at_10")


@dataclass
class _Progress:
    """How far a run is: what a checkpoint holds beside parameters."""

    points: list[LossPoint] = field(default_factory=list)
    """One an epoch."""
    best_epoch: int = 0
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    """The parameters after the best epoch by held-out loss."""

    @property
    def epochs_done(self) -> int:
        """Epochs that are done."""
        return len(self.points)


class TorchFileLearner:
    """Learns models on a device: "cpu", "cuda", or "auto" for a GPU if there is one."""

    def __init__(self, device: str, recipe: FileRecipe = DEFAULT_FILE_RECIPE) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        self._recipe = recipe

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
        """Learns a model and measures it against its base."""
        torch.set_num_threads(self._recipe.threads)
        torch.set_deterministic_debug_mode("warn")
        recipe, chosen = _settle(self._recipe, wish.hyperparameters)
        most = recipe.evaluation_outcomes_max
        arrays = read_file_arrays(snapshot, recipe.others, most, self._device)
        everyone = torch.cat([arrays.training.anchors, arrays.held_out.anchors])
        sources = map_sources(arrays, everyone, base)
        training = TextMapTraining(arrays, sources, recipe, beta=recipe.beta, seed=seed)
        maker = made_by(recipe)
        progress = _read_checkpoint(checkpoint, training, maker)

        watch.enter(Phase.RUNNING)
        offered_at = time.monotonic()
        steps = recipe.epochs * training.steps_count
        watch.step(progress.epochs_done * training.steps_count, steps)
        while _goes_on(progress, recipe, chosen, watch):
            number = progress.epochs_done
            loss = training.run_epoch(number, lambda done: watch.step(done, steps))
            _note(progress, training, arrays, loss)
            point = progress.points[-1]
            watch.add_point(point)
            files = package_model(arrays, sources, everyone, training.model, base)
            watch.offer_model(point, files)
            crashpoint("trainer.epoch.done")
            if watch.pausing or time.monotonic() - offered_at > CHECKPOINT_SECONDS:
                offered_at = time.monotonic()
                watch.offer_checkpoint(_write_checkpoint(progress, training, maker))
            if watch.pausing:
                raise RunPausedError

        watch.enter(Phase.EVALUATING)
        if chosen.n_epochs is None and progress.best_epoch:
            training.model.load_state_dict(progress.best)
        crashpoint("trainer.model.learned")
        evaluation = _evaluate(arrays, sources, training)
        crashpoint("trainer.model.evaluated")
        watch.enter(Phase.EXPORTING)
        used = dataclasses.replace(
            chosen,
            n_epochs=progress.epochs_done,
            batch_size=recipe.batch,
            learning_rate_multiplier=chosen.learning_rate_multiplier or 1.0,
            beta=recipe.beta if arrays.method == "dpo" else None,
        )
        return LearnedModel(
            files=package_model(arrays, sources, everyone, training.model, base),
            recipe={
                **dataclasses.asdict(recipe),
                "method": arrays.method,
                "seed": seed,
                "device": self._device.type,
                "epochs_done": progress.epochs_done,
                "best_epoch": progress.best_epoch if chosen.n_epochs is None else 0,
            },
            evaluation=evaluation,
            result_file=_result_file(progress.points),
            trained_tokens_count=arrays.tokens_count * progress.epochs_done,
            hyperparameters=used,
        )


def _settle(recipe: FileRecipe, chosen: Hyperparameters) -> tuple[FileRecipe, Hyperparameters]:
    """The recipe with what was chosen in it."""
    settled = dataclasses.replace(
        recipe,
        epochs=chosen.n_epochs or recipe.epochs,
        batch=chosen.batch_size or recipe.batch,
        learning_rate=recipe.learning_rate * (chosen.learning_rate_multiplier or 1.0),
        beta=chosen.beta or recipe.beta,
    )
    return settled, chosen


def _goes_on(
    progress: _Progress, recipe: FileRecipe, chosen: Hyperparameters, watch: Watch
) -> bool:
    done = progress.epochs_done
    if done >= recipe.epochs:
        return False
    if not done:
        return True  # one epoch is the least that makes a model
    if watch.stopping:
        return False
    if chosen.n_epochs is not None or not progress.best_epoch:
        return True
    return done - progress.best_epoch < recipe.patience


def _note(progress: _Progress, training: TextMapTraining, arrays: FileArrays, loss: float) -> None:
    """Measures an epoch on the held-out lines and notes the point; keeps the best parameters."""
    held_out_loss = training.held_out_loss()
    step = (progress.epochs_done + 1) * training.steps_count
    ndcg = 0.0
    if held_out_loss is not None:
        trial = arrays.trial
        scores = training.cosines(trial.anchors, trial.items).double().cpu().numpy()
        found = ndcg_by_seeker(trial.anchors.cpu().numpy(), is_positive(trial), scores, trial.ties)
        ndcg = float(found.mean()) if len(found) else 0.0
    progress.points.append(LossPoint(STAGE, step, loss, ndcg, held_out_loss))
    if held_out_loss is not None and held_out_loss < progress.best_loss:
        progress.best_loss, progress.best_epoch = held_out_loss, progress.epochs_done
        state = training.model.state_dict()
        progress.best = {name: tensor.detach().clone() for name, tensor in state.items()}


def _evaluate(arrays: FileArrays, sources: Tensor, training: TextMapTraining) -> Evaluation:
    """Scores of the trial by the model and by its base."""
    trial = arrays.trial
    before = (sources[trial.anchors] * arrays.vectors[trial.items]).sum(1).cpu().numpy()
    after = training.cosines(trial.anchors, trial.items).double().cpu().numpy()
    anchors = trial.anchors.cpu().numpy()
    sides = arrays.item_hashes[anchors] // 16 % 2 == 0
    return Evaluation(
        seekers=anchors.astype(np.int32),
        levels=trial.levels,
        challenger_scores=cross_fit(after, is_positive(trial), sides).astype(np.float32),
        incumbent_scores=before.astype(np.float32),
        incumbent_calibrated=False,
    )


def _result_file(points: list[LossPoint]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in points:
        measured = point.validation_loss is not None
        ndcg = point.validation_ndcg_at_10 if measured else ""
        validation = point.validation_loss if measured else ""
        writer.writerow([point.step, point.loss, validation, ndcg])
    return text.getvalue().encode()


def _write_checkpoint(progress: _Progress, training: TextMapTraining, maker: str) -> bytes:
    content = {
        "points": [dataclasses.astuple(point) for point in progress.points],
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss if progress.best_epoch else None,
    }
    tensors = {f"training/{name}": t for name, t in pack_training(training.modules()).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in progress.best.items()}
    packed = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    return save(packed, metadata={"progress": json.dumps(content), "maker": maker})


def _read_checkpoint(content: bytes | None, training: TextMapTraining, maker: str) -> _Progress:
    """Puts parameters and optimizer back where they were; where there is nothing, at the start."""
    words = {} if content is None else read_metadata(content)
    if content is None or words.get("maker") != maker:
        return _Progress()
    told = json.loads(words["progress"])
    parts: dict[str, dict[str, Tensor]] = {"training": {}, "best": {}}
    for key, tensor in load(content).items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    unpack_training(parts["training"], training.modules())
    device = training.model.mean.device
    return _Progress(
        points=[LossPoint(*point) for point in told["points"]],
        best_epoch=told["best_epoch"],
        best_loss=math.inf if told["best_loss"] is None else told["best_loss"],
        best={name: tensor.to(device) for name, tensor in parts["best"].items()},
    )
