"""What ranks pairs once it is fitted: the part of a head that the gate judges.

One recipe makes several from different outcomes: the head that is exported, from all of them, and
its twins, each from those that say nothing of what it is asked.
"""

from dataclasses import dataclass

from torch import Tensor

from services.trainer.learning.cross import CrossTraining
from services.trainer.learning.head import CrossPart
from services.trainer.learning.light import LightModel, LightTraining, PersonModel
from services.trainer.learning.mixed_model import Fit


@dataclass(frozen=True, slots=True)
class Ranker:
    """Fitted parts, and what they were fitted with."""

    rows: Tensor
    """Outcomes that it learned from."""
    light: LightTraining
    fit: Fit
    person: PersonModel
    linear: LightModel
    cross: CrossPart
    knows_people: bool

    @classmethod
    def of(
        cls,
        rows: Tensor,
        light: LightTraining,
        fit: Fit,
        cross: CrossTraining | None,
        *,
        knows_people: bool,
    ) -> "Ranker":
        """The parts as they stand."""
        person, linear = light.models(fit)
        pairs = CrossPart(linear, None if cross is None else cross.model)
        return cls(rows, light, fit, person, linear, pairs, knows_people)

    def table(self, rows: Tensor) -> Tensor:
        """What the ranker knows of single people from some outcomes: [U, 2]; zeros for nothing."""
        return self.light.table(self.fit, self.person, rows) * self.knows_people
