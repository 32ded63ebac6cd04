"""What a domain head says, in the terms of a tenant's own features: where its learning begins.

The head is asked, not taken apart. Its linear stage is, but for clipped values, linear in any
head's features of two people; so the weights that give its logits for people who do not exist are
its weights in the tenant's terms, whatever either standardises by, in whichever order they hold
columns, and where one lacks what the other has. So it is with what its query map reads of columns.

Shapes: n strangers, p pairs of them, d columns of a design, f features of a person.
"""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from services.trainer.core.ports import HeadFiles
from services.trainer.learning.onnx_head import OnnxHead
from services.trainer.learning.snapshot import Snapshot, columns_for
from services.trainer.learning.strangers import make_strangers

STRANGERS = 4_096
JITTER = 1e-6
"""Share of a pair: features that say the same, such as all members of an enum, share a weight."""


class Prior:
    """A domain head that fits a tenant's columns."""

    def __init__(self, files: HeadFiles, snapshot: Snapshot) -> None:
        self.strangers = make_strangers(snapshot, STRANGERS)
        device = snapshot.columns.device
        seekers, candidates = self.strangers.seekers.cpu(), self.strangers.candidates.cpu()
        vectors = self.strangers.vectors.cpu()
        cosines = (vectors[seekers] * vectors[candidates]).sum(1, keepdim=True).numpy()
        nobody = np.zeros((STRANGERS, 4), np.float32), np.zeros((STRANGERS, 2), np.float32)
        head = OnnxHead(files)
        # Of whom nothing is known but a profile: what outcomes say of people is the tenant's own.
        states = head.describe(columns_for(self.strangers, files.columns), *nobody)
        logits = head.score_light(states[seekers.numpy()], states[candidates.numpy()], cosines)
        self._logits = torch.from_numpy(logits[:, 0]).double().to(device)
        self._map = _parameters(files.query_map, device)
        features = len(self._map["down"]) - files.dim
        self._described = torch.from_numpy(states[:, :features]).double().to(device)

    def weights(self, design_pd: Tensor) -> Tensor:
        """The weights [d] with which a design of the strangers' pairs gives the head's logits."""
        return _solve(design_pd, self._logits)

    def query_map(self, described_nf: Tensor, mean: Tensor, contrast: float) -> dict[str, Tensor]:
        """The head's query map for other features of the strangers and around another mean.

        Returns:
            "down", "up" and "offset", as QueryMap has them.
        """
        known = self._map
        everyone = torch.ones_like(described_nf[:, :1])
        translated = _solve(torch.cat([everyone, described_nf], 1).double(), self._described)
        of_vectors, of_features = known["down"][: len(mean)], known["down"][len(mean) :]
        moved = contrast * (mean.double() - known["mean"]) @ of_vectors
        moved = moved + translated[0] @ of_features
        found = {
            "down": torch.cat([of_vectors, translated[1:] @ of_features]),
            "up": known["up"],
            "offset": known["offset"] + moved @ known["up"],
        }
        return {name: value.float() for name, value in found.items()}


def _parameters(part: bytes, device: torch.device) -> dict[str, Tensor]:
    """What an exported part was made of, by name, as float64."""
    found = onnx.load_model_from_string(part).graph.initializer
    arrays = {each.name: numpy_helper.to_array(each) for each in found}
    return {name: torch.tensor(array).double().to(device) for name, array in arrays.items()}


def _solve(inputs: Tensor, wanted: Tensor) -> Tensor:
    """Least squares, in float64."""
    gram = inputs.T @ inputs
    jitter = JITTER * len(inputs) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(gram + jitter, inputs.T @ wanted)
    return solved
