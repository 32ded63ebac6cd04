"""The head as it is exported: four parts, each a function of what serving holds.

query_map: the seeker's columns [1, c] and vector [1, d] to a query [1, d].
person: columns [n, c], counts [n, 4] and table [n, 2] of people to their states [n, k].
light: state of the seeker [1, k], states of candidates [n, k], cosines [n, 1] to logits [n, 1].
cross: the same to probabilities of a positive outcome [n, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.trainer.learning.cross import CrossModel
from services.trainer.learning.light import LightModel, PersonModel
from services.trainer.learning.query_map import QueryMap


class CrossPart(nn.Module):
    """The linear stage and, if there is one, the residual on it."""

    def __init__(self, light: LightModel, cross: CrossModel | None) -> None:
        super().__init__()
        self.light = light
        self.cross = cross

    def forward(self, seeker: Tensor, candidates: Tensor, cosines: Tensor) -> Tensor:
        """Returns probabilities [n, 1]."""
        logits = self.light(seeker, candidates, cosines)
        if self.cross is not None:
            logits = logits + self.cross(seeker, candidates)
        return torch.sigmoid(logits)


@dataclass(frozen=True, slots=True)
class Head:
    """A trained head."""

    query_map: QueryMap
    person: PersonModel
    light: LightModel
    cross: CrossPart

    def cpu(self) -> "Head":
        """The head on the CPU, where it is exported."""
        return Head(self.query_map.cpu(), self.person.cpu(), self.light.cpu(), self.cross.cpu())
