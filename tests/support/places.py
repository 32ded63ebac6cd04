"""A gazetteer of a few places in memory."""

from collections.abc import Sequence

from services.triplets.core.extraction.ports import Place

PLACES = (
    Place("New York City", "NY", "US", 40.71, -74.01, 8_804_190),
    Place("Paris", "11", "FR", 48.85, 2.35, 2_138_551),
    Place("Paris", "TX", "US", 33.66, -95.56, 24_782),
    Place("Oslo", "12", "NO", 59.91, 10.75, 580_000),
    Place("Springfield", "IL", "US", 39.8, -89.64, 116_250),
    Place("Springfield", "MA", "US", 42.1, -72.59, 155_929),
)
_ALSO = {"new york": "New York City"}
_AREAS = {"ny": ("US", "NY"), "tx": ("US", "TX"), "texas": ("US", "TX"), "il": ("US", "IL")} | {
    "usa": ("US", ""),
    "france": ("FR", ""),
    "norway": ("NO", ""),
}


class MemoryGazetteer:
    """Knows the places above."""

    def find(self, name: str) -> Sequence[Place]:
        wanted = _ALSO.get(name.casefold(), name).casefold()
        return [place for place in PLACES if place.name.casefold() == wanted]

    def area(self, name: str) -> tuple[str, str] | None:
        return _AREAS.get(name.casefold())
