"""What outcomes say about one person: how many of each level they gave and received."""

from typing import NamedTuple

from services.triplets.core.outcome import LEVELS_COUNT, POSITIVE_LEVEL
from services.triplets.core.triplet import count_triplets

Counts = tuple[int, ...]
_NONE: Counts = (0,) * LEVELS_COUNT


class Tally(NamedTuple):
    """Standing outcomes of one person, counted per level."""

    given: Counts = _NONE
    """As a seeker."""
    received: Counts = _NONE
    """As a candidate."""

    @property
    def triplets_count(self) -> int:
        """Triplets that the person is the anchor of."""
        return count_triplets(self.given)

    @property
    def positives_count(self) -> int:
        """Positive outcomes that the person gave."""
        return sum(self.given[POSITIVE_LEVEL:])

    @property
    def effects(self) -> tuple[int, int, int, int]:
        """What heads read: given, positive of them, received, positive of them."""
        return (
            sum(self.given),
            self.positives_count,
            sum(self.received),
            sum(self.received[POSITIVE_LEVEL:]),
        )

    def give(self, before: int | None, after: int | None) -> "Tally":
        """The tally once an outcome that the person gave stands at another level, or at none."""
        return Tally(_moved(self.given, before, after), self.received)

    def receive(self, before: int | None, after: int | None) -> "Tally":
        """The tally once an outcome that they received stands at another level, or at none."""
        return Tally(self.given, _moved(self.received, before, after))


def _moved(counts: Counts, before: int | None, after: int | None) -> Counts:
    moved = list(counts)
    if before is not None:
        moved[before] -= 1
    if after is not None:
        moved[after] += 1
    return tuple(moved)
