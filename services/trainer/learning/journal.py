"""What a run has done so far, for another trainer to go on from: safetensors and JSON, no pickle.

A stage writes down how many of its steps are done, its numbers and its tensors. Every stage is a
function of snapshot, recipe, seed and the stages before it, and what it draws at random depends on
the number of the step alone: so a run that was interrupted ends with the same bytes as one that was
not.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from importlib import metadata

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from services.chassis.crashpoint import crashpoint
from services.chassis.tensors import read_metadata
from services.trainer.core.errors import RunPausedError
from services.trainer.core.recipe import FileRecipe, Recipe
from services.trainer.core.watch import LossPoint, Watch

CHECKPOINT_SECONDS = 10.0

Numbers = dict[str, float]
Trained = list[tuple[nn.Module, torch.optim.Optimizer]]


@dataclass
class Stage:
    """One stage's entry."""

    done: int = 0
    finished: bool = False
    numbers: Numbers = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Journal:
    """The entries of all stages, and the way they are told to the scheduler."""

    def __init__(
        self, checkpoint: bytes | None, watch: Watch, steps_count: int, recipe: Recipe
    ) -> None:
        """Goes on from a checkpoint of this release and recipe; any other is none."""
        self._watch = watch
        self._steps_count = steps_count
        self._maker = made_by(recipe)
        self._stages: dict[str, Stage] = {}
        self._offered_at = time.monotonic()
        if checkpoint is not None and read_metadata(checkpoint).get("maker") == self._maker:
            self._read(checkpoint)
            watch.step(self.steps_done, steps_count)

    def stage(self, name: str) -> Stage:
        """The entry of a stage: as it was left, or new."""
        return self._stages.setdefault(name, Stage())

    def step(self, stage: Stage, point: LossPoint | None = None) -> None:
        """Notes that a step of a stage is done.

        Raises:
            RunPausedError: the run is to go on later, from here.
        """
        stage.done += 1
        crashpoint("trainer.step.done")
        if point is not None:
            self._watch.add_point(point)
        self._watch.step(self.steps_done, self._steps_count)
        pausing = self._watch.pausing
        if pausing or time.monotonic() - self._offered_at > CHECKPOINT_SECONDS:
            self._offered_at = time.monotonic()
            self._watch.offer_checkpoint(self.to_bytes())
        if pausing:
            raise RunPausedError

    @property
    def stopping(self) -> bool:
        """Whether training is to end with what it has learned."""
        return self._watch.stopping

    @property
    def steps_done(self) -> int:
        """Steps of all stages."""
        return sum(stage.done for stage in self._stages.values())

    def to_bytes(self) -> bytes:
        """The journal as a file."""
        content = {
            name: {"done": s.done, "finished": s.finished, "numbers": s.numbers}
            for name, s in self._stages.items()
        }
        tensors = {
            f"{name}/{key}": tensor.detach().cpu().contiguous()
            for name, stage in self._stages.items()
            for key, tensor in stage.tensors.items()
        }
        return save(tensors, metadata={"stages": json.dumps(content), "maker": self._maker})

    def _read(self, content: bytes) -> None:
        for name, entry in json.loads(read_metadata(content)["stages"]).items():
            self._stages[name] = Stage(entry["done"], entry["finished"], entry["numbers"])
        for key, tensor in load(content).items():
            name, _, rest = key.partition("/")
            self._stages[name].tensors[rest] = tensor


def made_by(recipe: Recipe | FileRecipe) -> str:
    """What a checkpoint must be of to be gone on from: a run may be paused over a new release."""
    told = {"code": metadata.version("trine"), "recipe": dataclasses.asdict(recipe)}
    return json.dumps(told, sort_keys=True)


def pack_training(trained: Trained) -> dict[str, Tensor]:
    """Parameters and optimizer states by name."""
    packed: dict[str, Tensor] = {}
    for number, (module, optimizer) in enumerate(trained):
        for name, parameter in module.named_parameters():
            packed[f"{number}/parameters/{name}"] = parameter.detach().clone()
        for place, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                packed[f"{number}/optimizer/{place}/{name}"] = value.detach().clone()
    return packed


def unpack_training(packed: dict[str, Tensor], trained: Trained) -> None:
    """Puts parameters and optimizer states back."""
    for number, (module, optimizer) in enumerate(trained):
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(packed[f"{number}/parameters/{name}"])
        content = optimizer.state_dict()
        states: dict[int, dict[str, Tensor]] = {}
        prefix = f"{number}/optimizer/"
        for key, value in packed.items():
            if key.startswith(prefix):
                place, name = key.removeprefix(prefix).split("/")
                states.setdefault(int(place), {})[name] = value
        optimizer.load_state_dict({**content, "state": states})
