"""Filters: the whole grammar on columns, and errors that name field and rule."""

import numpy as np
import pytest

from services.serving.core.errors import FilterInvalidError
from services.serving.core.filters import read_filters
from tests.support.candidates import partition, rows

NAN = float("nan")
PEOPLE = partition(
    rows(
        [0, 1, 2, 3],
        age=[20, 30, 40, NAN],
        goal=[0, 1, NAN, 1],
        smoker=[0, 1, 1, NAN],
        joined=[0, 86_400, 172_800, NAN],
        cities=["NY", "LA", "", "NY"],
    )
)


def passing(filters: dict[str, object]) -> list[int]:
    """Numbers of the people who meet the filters."""
    view = PEOPLE.view
    mask = np.ones(view.size, np.bool_)
    for condition in read_filters(PEOPLE, filters):
        mask &= condition(view)
    return [int(number) for number in view.numbers[: view.size][mask]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"age": 30}, [1]),
        ({"age": [20, 40]}, [0, 2]),
        ({"age": {"gte": 30}}, [1, 2]),
        ({"age": {"gt": 30}}, [2]),
        ({"age": {"gt": 20, "lt": 40}}, [1]),
        ({"age": {"lte": 20}}, [0]),
        ({"age": {"not": 30}}, [0, 2, 3]),
        ({"age": {"not_in": [20, 30]}}, [2, 3]),
        ({"age": {"in": [20]}}, [0]),
        ({"goal": "love"}, [1, 3]),
        ({"goal": {"not": "love"}}, [0, 2]),
        ({"smoker": True}, [1, 2]),
        ({"smoker": False}, [0]),
        ({"city": "NY"}, [0, 3]),
        ({"city": "Nowhere"}, []),
        ({"city": {"not": "NY"}}, [1, 2]),
        ({"city": {"not": "Nowhere"}}, [0, 1, 2, 3]),
        ({"joined": {"gte": "1970-01-02T00:00:00Z"}}, [1, 2]),
        ({"joined": "1970-01-01T01:00:00+01:00"}, [0]),
        ({"age": {"gte": 30}, "city": "LA"}, [1]),
    ],
)
def test_conditions(filters: dict[str, object], expected: list[int]) -> None:
    assert passing(filters) == expected


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"shoe_size": 44}, "filters.shoe_size"),
        ({"about": "x"}, "filters.about"),
        ({"taste": 1}, "filters.taste"),
        ({"age": "30"}, "filters.age"),
        ({"age": True}, "filters.age"),
        ({"age": None}, "filters.age"),
        ({"age": {}}, "filters.age"),
        ({"age": {"above": 3}}, "filters.age.above"),
        ({"age": {"in": 3}}, "filters.age.in"),
        ({"age": {"in": []}}, "filters.age.in"),
        ({"age": {"gte": "x"}}, "filters.age.gte"),
        ({"age": []}, "filters.age.in"),
        ({"age": float("inf")}, "filters.age"),
        ({"goal": "money"}, "filters.goal"),
        ({"goal": {"gt": "fun"}}, "filters.goal.gt"),
        ({"city": 3}, "filters.city"),
        ({"city": {"lt": "b"}}, "filters.city.lt"),
        ({"smoker": "yes"}, "filters.smoker"),
        ({"joined": "yesterday"}, "filters.joined"),
        ({"joined": "2026-05-17T08:00:00"}, "filters.joined"),
        ({f"f{i}": 1 for i in range(65)}, "filters"),
    ],
)
def test_broken_filters_name_field_and_rule(filters: dict[str, object], field: str) -> None:
    with pytest.raises(FilterInvalidError) as caught:
        read_filters(PEOPLE, filters)
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["rule"]


def test_large_integers_are_compared_exactly() -> None:
    salary = 20_000_001.0  # float32 would round it
    made = partition(rows([0, 1], age=[salary, salary + 1]))
    (condition,) = read_filters(made, {"age": salary})
    assert condition(made.view).tolist() == [True, False]
