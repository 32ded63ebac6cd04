"""Filters on lists and places: sets of strings, and radii on the Earth."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.candidates import FieldSpec, Partition
from services.serving.core.conditions import remembered
from services.serving.core.distance import EARTH_RADIUS_KM, distances_km
from services.serving.core.errors import FilterInvalidError
from services.serving.core.filters import read_filters
from services.serving.core.find_matches import find_matches
from tests.support.candidates import LAYOUT, rows, served
from tests.support.matching import request

NAN = float("nan")
TOWNS = dataclasses.replace(
    LAYOUT,
    fields=(
        *LAYOUT.fields,
        FieldSpec("likes", "hard", "list", ()),
        FieldSpec("location", "hard", "geo", ()),
    ),
)
BASEL, ZURICH = (47.5596, 7.5886), (47.3769, 8.5417)
PARIS, LONDON = (48.8566, 2.3522), (51.5074, -0.1278)
NOWHERE = (NAN, NAN)


def crowd(likes: list[list[str]], places: list[tuple[float, float]]) -> Partition:
    """People u0, u1 and so on, and what they like and where they are."""
    made = Partition(TOWNS)
    values = [value for some in likes for value in some]
    counts = np.array([len(some) for some in likes], np.int32)
    batch = rows(list(range(len(likes))))
    made.apply_profiles(
        dataclasses.replace(
            batch, lists={"likes": (values, counts)}, points={"location": np.array(places)}
        )
    )
    return made


PEOPLE = crowd(
    [["tea", "art"], ["art"], [], ["tea", "tea", "chess"]], [BASEL, ZURICH, NOWHERE, PARIS]
)


def passing(filters: dict[str, Any], made: Partition = PEOPLE, seeker: int = 0) -> list[int]:
    """Numbers of the people who meet the filters of a seeker."""
    mask = np.ones(made.view.size, np.bool_)
    for condition in read_filters(made, filters):
        mask &= condition(made.view, seeker)
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"likes": "tea"}, [0, 3]),
        ({"likes": ["art", "chess"]}, [0, 1, 3]),
        ({"likes": {"contains": "art"}}, [0, 1]),
        ({"likes": {"any": ["art", "golf"]}}, [0, 1]),
        ({"likes": {"all": ["tea", "art"]}}, [0]),
        ({"likes": {"all": ["tea", "tea"]}}, [0, 3]),
        ({"likes": {"all": ["tea", "golf"]}}, []),
        ({"likes": {"not": "tea"}}, [1, 2]),
        ({"likes": {"not": "golf"}}, [0, 1, 2, 3]),
        ({"likes": {"exists": True}}, [0, 1, 3]),
        ({"likes": {"exists": False}}, [2]),
        ({"likes": {"contains": "tea", "not": "art"}}, [3]),
        ({"location": {"within_km": 100}}, [0, 1]),
        ({"location_within_km": 100}, [0, 1]),
        ({"location_within_km": 1}, [0]),
        ({"location": {"within_km": 500}}, [0, 1, 3]),
        ({"location": {"within_km": 350, "of": {"lat": LONDON[0], "lon": LONDON[1]}}}, [3]),
        ({"location": {"exists": False}}, [2]),
        ({"location": {"exists": True, "within_km": 100}}, [0, 1]),
        ({"location_within_km": 100, "likes": "tea"}, [0]),
    ],
)
def test_conditions(filters: dict[str, Any], expected: list[int]) -> None:
    assert passing(filters) == expected


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"likes": 3}, "filters.likes"),
        ({"likes": []}, "filters.likes.any"),
        ({"likes": {"all": "tea"}}, "filters.likes.all"),
        ({"likes": {"any": ["tea", 3]}}, "filters.likes.any"),
        ({"likes": {"in": ["tea"]}}, "filters.likes.in"),
        ({"likes": {}}, "filters.likes"),
        ({"location": "Basel"}, "filters.location"),
        ({"location": [1, 2]}, "filters.location.in"),
        ({"location": {}}, "filters.location"),
        ({"location": {"near": 3}}, "filters.location.near"),
        ({"location": {"within_km": 0}}, "filters.location.within_km"),
        ({"location": {"within_km": 20_041}}, "filters.location.within_km"),
        ({"location": {"within_km": "far"}}, "filters.location.within_km"),
        ({"location": {"of": {"lat": 1, "lon": 2}}}, "filters.location.of"),
        ({"location": {"within_km": 1, "of": {"lat": 1}}}, "filters.location.of"),
        ({"location": {"within_km": 1, "of": None}}, "filters.location.of"),
        ({"location": {"within_km": 1, "of": {"lat": 91, "lon": 0}}}, "filters.location.of.lat"),
        ({"location": {"within_km": 1, "of": {"lat": 0, "lon": 181}}}, "filters.location.of.lon"),
        ({"location": {"within_km": 1, "of": {"lat": "a", "lon": 1}}}, "filters.location.of.lat"),
        ({"location_within_km": {"within_km": 3}}, "filters.location_within_km"),
        ({"age_within_km": 3}, "filters.age_within_km"),
        ({"nowhere_within_km": 3}, "filters.nowhere_within_km"),
    ],
)
def test_broken_filters_name_field_and_rule(filters: dict[str, Any], field: str) -> None:
    with pytest.raises(FilterInvalidError) as caught:
        read_filters(PEOPLE, filters)
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["rule"]


def test_a_seeker_without_a_place_needs_another_one() -> None:
    with pytest.raises(FilterInvalidError) as caught:
        passing({"location_within_km": 100}, seeker=2)
    assert caught.value.metadata["field"] == "filters.location_within_km"
    elsewhere = {"location": {"within_km": 1, "of": {"lat": PARIS[0], "lon": PARIS[1]}}}
    assert passing(elsewhere, seeker=2) == [3]


def test_in_a_batch_each_seekers_own_place_counts() -> None:
    (shared, own) = remembered(read_filters(PEOPLE, {"location_within_km": 100, "likes": "art"}))
    view = PEOPLE.view
    found = [(shared(view, s) & own(view, s)).nonzero()[0].tolist() for s in (0, 3, 1)]
    assert found == [[0, 1], [], [0, 1]]


def test_a_match_is_made_around_the_seeker() -> None:
    wish = dataclasses.replace(
        request("u1"), conditions=read_filters(PEOPLE, {"location_within_km": 100})
    )
    assert find_matches(served(PEOPLE), wish).numbers.tolist() == [0]


LIKES = st.lists(st.sampled_from("abcd"), max_size=4)


@given(st.lists(LIKES, min_size=1, max_size=8), st.lists(st.sampled_from("abcde"), min_size=1))
def test_lists_are_sets(likes: list[list[str]], wanted: list[str]) -> None:
    made = crowd(likes, [NOWHERE] * len(likes))
    every = range(len(likes))
    assert passing({"likes": {"any": wanted}}, made) == [
        n for n in every if set(likes[n]) & set(wanted)
    ]
    assert passing({"likes": {"all": wanted}}, made) == [
        n for n in every if set(wanted) <= set(likes[n])
    ]
    assert passing({"likes": {"not": wanted[0]}}, made) == [
        n for n in every if wanted[0] not in likes[n]
    ]


LATITUDES, LONGITUDES = st.floats(-90, 90), st.floats(-180, 180)
POINTS = st.tuples(LATITUDES, LONGITUDES)


def apart(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Distance of two points."""
    return float(distances_km(np.array([first]), *second)[0])


@given(POINTS, POINTS, POINTS)
def test_distances_are_those_of_a_sphere(a: Any, b: Any, c: Any) -> None:
    assert apart(a, b) == pytest.approx(apart(b, a), abs=1e-6)
    assert 0 <= apart(a, b) <= np.pi * EARTH_RADIUS_KM + 1e-6
    assert apart(a, c) <= apart(a, b) + apart(b, c) + 1e-3
    assert apart(a, a) == pytest.approx(0, abs=1e-6)
    assert apart(a, (a[0], a[1] - 360)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "kilometres"),
    [(PARIS, LONDON, 343.6), (BASEL, ZURICH, 74.4), ((0, 0), (0, 180), 20_015.1)],
)
def test_known_distances(first: Any, second: Any, kilometres: float) -> None:
    assert apart(first, second) == pytest.approx(kilometres, rel=0.005)
    assert np.isnan(apart(NOWHERE, first))
