"""What extraction needs from outside: where places are, and perhaps a language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.triplets.core.schema import Field


@dataclass(frozen=True, slots=True)
class Place:
    """One populated place."""

    name: str
    region: str
    """Code of the country's first division, such as "NY"; may be empty."""
    country: str
    """ISO 3166 code, two letters."""
    lat: float
    lon: float
    population: int


class Gazetteer(Protocol):
    """Knows populated places by name; in memory, so that asking it is no I/O."""

    def find(self, name: str) -> Sequence[Place]:
        """Returns the places of that name, whatever its case."""
        ...

    def area(self, name: str) -> tuple[str, str] | None:
        """Returns the (country, region) that a name or code stands for; no region for a country."""
        ...


class Reader(Protocol):
    """A language model that reads fields out of texts."""

    async def read(self, fields: Sequence[Field], text: str) -> Mapping[str, object]:
        """Returns {"value", "quote", "confidence"} by field name; nothing of it can be trusted.

        Raises:
            ReaderFailedError: whatever went wrong.
        """
        ...


class ReaderFailedError(Exception):
    """The language model gave nothing that can be used; the reason in words."""
