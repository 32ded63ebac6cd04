"""Filters: the whole grammar on columns, and errors that name field and rule."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.candidates import Mask, View
from services.serving.core.conditions import remembered
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
        mask &= condition(view, 0)
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
        ({"age": {"exists": True}}, [0, 1, 2]),
        ({"age": {"exists": False}}, [3]),
        ({"city": {"exists": False}}, [2]),
        ({"city": {"exists": True}}, [0, 1, 3]),
        ({"city": {"contains": "n"}}, [0, 3]),
        ({"city": {"contains": "NY "}}, []),
        ({"city": {"contains": "l", "not_in": ["NY"]}}, [1]),
        ({"age": {"gte": 20, "not_in": [30], "lt": 40, "exists": True}}, [0]),
        ({"age": {"exists": False, "gt": 3}}, []),
        ({"goal": {"in": ["fun", "love"], "not": "fun"}}, [1, 3]),
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
        ({"city": {"contains": ""}}, "filters.city.contains"),
        ({"city": {"contains": 3}}, "filters.city.contains"),
        ({"age": {"contains": "3"}}, "filters.age.contains"),
        ({"age": {"exists": 1}}, "filters.age.exists"),
        ({"age": {"not": None}}, "filters.age.not"),
        ({"age": {"not": {"gt": 3}}}, "filters.age.not"),
        ({"smoker": {"gt": True}}, "filters.smoker.gt"),
        ({"goal": {"exists": None}}, "filters.goal.exists"),
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


def people(random: np.random.Generator) -> dict[str, list[Any]]:
    """Forty people, about a third of whose values are absent."""
    ages = np.where(random.random(40) < 1 / 3, NAN, random.integers(18, 24, 40))
    goals = np.where(random.random(40) < 1 / 3, NAN, random.integers(0, 2, 40))
    cities = random.choice(["", "New York", "York", "Oslo"], 40)
    return {"age": ages.tolist(), "goal": goals.tolist(), "cities": cities.tolist()}


def meets(filters: dict[str, Any], age: float, goal: float, city: str) -> bool:
    """The rules as the contract words them, for one person."""
    held: list[bool] = []
    for operator, operand in filters.get("age", {}).items():
        match operator:
            case "gt":
                held.append(age > operand)
            case "lte":
                held.append(age <= operand)
            case "not":
                held.append(age != operand)
            case "in":
                held.append(age in operand)
            case _:
                held.append(math.isnan(age) != operand)
    for operator, operand in filters.get("goal", {}).items():
        name = "" if math.isnan(goal) else ("fun", "love")[int(goal)]
        held.append(name not in operand if operator == "not_in" else name in operand)
    for operator, operand in filters.get("city", {}).items():
        contains = operand.casefold() in city.casefold() and bool(city)
        held.append(contains if operator == "contains" else city != operand)
    return all(held)


AGE_FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "gt": st.integers(17, 24),
        "lte": st.integers(17, 24),
        "not": st.integers(17, 24),
        "in": st.lists(st.integers(17, 24), min_size=1, max_size=3),
        "exists": st.booleans(),
    },
).filter(bool)
GOAL_FILTERS = st.sampled_from(["in", "not_in"]).flatmap(
    lambda name: st.fixed_dictionaries(
        {name: st.lists(st.sampled_from(["fun", "love"]), min_size=1, max_size=2)}
    )
)
CITY_FILTERS = st.sampled_from(
    [{"contains": "york"}, {"contains": "O"}, {"not": "Oslo"}, {"not": "x", "contains": "New"}]
)


@given(
    filters=st.fixed_dictionaries(
        {}, optional={"age": AGE_FILTERS, "goal": GOAL_FILTERS, "city": CITY_FILTERS}
    ),
    seed=st.integers(0, 10),
)
def test_whoever_passes_meets_every_operator_and_nobody_else_does(
    filters: dict[str, Any], seed: int
) -> None:
    made = people(np.random.default_rng(seed))
    crowd = partition(
        rows(list(range(40)), age=made["age"], goal=made["goal"], cities=made["cities"])
    )
    expected = [meets(filters, *person) for person in zip(*made.values(), strict=True)]
    mask = np.ones(40, np.bool_)
    for condition in read_filters(crowd, filters):
        mask &= condition(crowd.view, 0)
    assert mask.tolist() == expected


def test_strings_that_come_in_later_are_found_by_their_parts() -> None:
    made = partition(rows([0], cities=["Oslo"]))
    (condition,) = read_filters(made, {"city": {"contains": "berg"}})
    made.apply_profiles(rows([1], cities=["Bergen"]))
    assert condition(made.view, 0).tolist() == [False, True]


def test_conditions_of_a_batch_look_at_each_view_once() -> None:
    asked: list[View] = []

    def adults(view: View, _: int) -> Mask:
        asked.append(view)
        return view.columns[0][: view.size] >= 30

    made = partition(rows([0, 1], age=[20, 30], cities=["NY", "NY"]))
    (condition,) = remembered([adults, *read_filters(made, {"city": "NY"})])
    assert [condition(made.view, 0).tolist() for _ in range(3)] == [[False, True]] * 3
    made.apply_profiles(rows([2], age=[40], cities=["LA"]))
    assert condition(made.view, 0).tolist() == [False, True, False]
    assert len(asked) == 2
    assert remembered([]) == []


def test_large_integers_are_compared_exactly() -> None:
    salary = 20_000_001.0  # float32 would round it
    made = partition(rows([0, 1], age=[salary, salary + 1]))
    (condition,) = read_filters(made, {"age": salary})
    assert condition(made.view, 0).tolist() == [True, False]
