"""Where a person lives is read if they say so of themselves, and if the name means one place."""

import pytest

from services.triplets.core.extraction.places import read_place, resolve
from tests.support.places import MemoryGazetteer

GAZETTEER = MemoryGazetteer()


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("New York, NY", "NY"),
        ("new york", "NY"),
        ("Paris", "11"),
        ("Paris, TX", "TX"),
        ("Paris, Texas, USA", "TX"),
        ("Springfield, IL", "IL"),
        ("Springfield", None),
        ("Paris, Norway", None),
        ("Paris, Nowhere", None),
        ("Atlantis", None),
        ("", None),
    ],
)
def test_a_name_means_the_place_where_most_of_its_people_live(
    name: str, region: str | None
) -> None:
    found = resolve(GAZETTEER, name)
    assert (None if found is None else found[0].region) == region


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I live in Oslo.", "Oslo"),
        ("Nurse. New York, NY. Loves dogs", "New York City"),
        ("I'm from Oslo and live in Paris, France", "Paris"),
        ("Originally from Paris, based in Oslo", "Oslo"),
        ("I'm a nurse from Oslo", "Oslo"),
        ("Location: Paris, TX", "Paris"),
        ("My sister lives in Oslo", None),
        ("I used to live in Oslo", None),
        ("I want to live in Oslo", None),
        ("I don't live in Oslo", None),
        ("I live in the city", None),
        ("I studied in Paris", None),
        ("I live in Oslo. I moved to Paris.", None),
        ("I live in Springfield", None),
        ("Paris", None),
    ],
)
def test_only_ones_own_place_of_now_is_read(text: str, name: str | None) -> None:
    found = read_place(GAZETTEER, text)
    assert (None if found is None else found[0].name) == name
