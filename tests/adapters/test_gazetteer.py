"""GeoNames' places by the names that people use, without a network."""

import pytest

from services.triplets.core.extraction.places import read_place, resolve
from services.triplets.gazetteer import GeoNamesGazetteer


@pytest.fixture(scope="module")
def gazetteer() -> GeoNamesGazetteer:
    return GeoNamesGazetteer()


@pytest.mark.parametrize(
    ("name", "lat", "lon"),
    [
        ("New York, NY", 40.7, -74.0),
        ("nyc", 40.7, -74.0),
        ("Paris", 48.9, 2.3),
        ("Paris, TX", 33.7, -95.6),
        ("London, UK", 51.5, -0.1),
        ("London, Ontario", 43.0, -81.2),
        ("Toronto, ON", 43.7, -79.4),
        ("Cambridge, MA", 42.4, -71.1),
        ("Cambridge, England", 52.2, 0.1),
        ("München", 48.1, 11.6),
        ("St. Louis", 38.6, -90.2),
        ("San Francisco, CA", 37.8, -122.4),
        ("Atlanta, GA", 33.7, -84.4),
        ("São Paulo, Brazil", -23.5, -46.6),
    ],
)
def test_a_place_is_where_it_is(
    gazetteer: GeoNamesGazetteer, name: str, lat: float, lon: float
) -> None:
    found = resolve(gazetteer, name)
    assert found is not None
    assert (round(found[0].lat, 1), round(found[0].lon, 1)) == (lat, lon)


@pytest.mark.parametrize("name", ["Springfield", "Cambridge", "Nowhere", "New York, XX", "", ","])
def test_a_name_without_one_meaning_is_nowhere(gazetteer: GeoNamesGazetteer, name: str) -> None:
    assert resolve(gazetteer, name) is None


@pytest.mark.parametrize("text", ["Reading, Hiking", "Mobile", "Nice", "I live in Peace and Love"])
def test_words_that_are_towns_too_are_words(gazetteer: GeoNamesGazetteer, text: str) -> None:
    assert read_place(gazetteer, text) is None
