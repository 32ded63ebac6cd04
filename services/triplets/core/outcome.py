"""What became of a candidate who was shown to a seeker, and which word stands for a pair."""

import datetime
import enum
from dataclasses import dataclass
from typing import NamedTuple

LEVELS = {"rejected": 0, "expired": 1, "accepted": 2, "converted": 3}
"""Strength of each label: what outweighs what."""

LEVELS_COUNT = len(LEVELS)
RETRACTED = "retracted"
RETRACTED_LEVEL = LEVELS_COUNT
"""Takes a pair's word back: above all levels, so that of a word and its retraction that name the
same moment the retraction stands, whichever arrives first."""

POSITIVE_LEVEL = LEVELS["accepted"]
"""From here on up an outcome counts as a yes."""

WEIGHT_MAX = 100.0
MATCH_ID_CHARACTERS_MAX = 64

OCCURRED_AT_MIN = datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
AHEAD_MAX = datetime.timedelta(days=1)
"""An outcome from further in the future would stand against every later word."""


class Standing(enum.IntEnum):
    """What is told of a pair to those who need no more than that."""

    NONE = 0
    """Its last word has been taken back."""
    OUTCOME = 1
    POSITIVE = 2


class Word(NamedTuple):
    """One outcome's word about a pair. Of several the largest stands.

    That is the latest, and at one moment the strongest: it depends on the words alone, not on the
    order in which they arrived. Where a retraction stands, the pair has no outcome.
    """

    occurred_at: datetime.datetime
    level: int
    weight: float

    @property
    def counted_level(self) -> int | None:
        """The level that counts for the pair; None for a retraction."""
        return None if self.level == RETRACTED_LEVEL else self.level


def micros(moment: datetime.datetime) -> int:
    """A moment in microseconds since 1970, exactly."""
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)


def standing_of(level: int) -> Standing:
    """What a standing word of a level says of its pair."""
    if level == RETRACTED_LEVEL:
        return Standing.NONE
    return Standing.POSITIVE if level >= POSITIVE_LEVEL else Standing.OUTCOME


class Pair(NamedTuple):
    """Who was shown whom, by the users' numbers in the domain."""

    seeker: int
    candidate: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome as it is recorded."""

    pair: Pair
    label: str
    word: Word
    match_id: str = ""
    """The match that it came of; empty if the caller does not say."""
