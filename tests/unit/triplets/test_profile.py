"""Profiles: which values are accepted, and what encoder and heads get of them."""

import math

import numpy as np
import pytest

from services.triplets.core.errors import FieldInvalidError
from services.triplets.core.profile import (
    check_values,
    check_vector,
    column_values,
    encoder_text,
)
from services.triplets.core.schema import Field, Schema

SCHEMA = Schema(
    domain="dating",
    number=3,
    encoder="all-minilm-l6-v2",
    dim=4,
    fields=(
        Field(name="age", kind="hard", type="integer", required=True),
        Field(name="height", kind="hard", type="number"),
        Field(name="smoker", kind="hard", type="boolean"),
        Field(name="city", kind="hard", type="string"),
        Field(name="goal", kind="hard", type="enum", members=("fun", "love")),
        Field(name="joined", kind="hard", type="timestamp"),
        Field(name="taste", kind="derived", type="number"),
        Field(name="tags", kind="hard", type="list"),
        Field(name="place", kind="hard", type="geo"),
        Field(name="hobbies", kind="soft", type="string", priority="low"),
        Field(name="values", kind="soft", type="string", priority="high"),
    ),
)
FULL = {
    "age": 31.0,
    "height": 1.7,
    "smoker": False,
    "city": "New York, NY",
    "goal": "love",
    "joined": "1970-01-02T00:00:00Z",
    "taste": 0.5,
    "tags": ["calm", "tall"],
    "place": {"lat": 47.56, "lon": -180.0},
    "hobbies": "climbing",
    "values": "honesty",
}


def test_sound_values_pass() -> None:
    assert check_values(SCHEMA, FULL) == FULL


def test_null_means_no_value() -> None:
    assert check_values(SCHEMA, {"age": 31.0, "city": None}) == {"age": 31.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 31.5),
        ("age", "31"),
        ("age", True),
        ("age", 2.0**60),
        ("age", None),
        ("height", math.inf),
        ("height", math.nan),
        ("height", 1e17),
        ("smoker", 1.0),
        ("city", 5.0),
        ("city", "x" * 1001),
        ("city", "a\0b"),
        ("goal", "money"),
        ("joined", "yesterday"),
        ("joined", "2026-05-17T08:00:00"),
        ("values", ["honesty"]),
        ("tags", "calm"),
        ("tags", ["x"] * 101),
        ("place", [47.56, 7.59]),
        ("place", {"lat": 47.56}),
        ("place", {"lat": 47.56, "lon": 7.59, "alt": 1.0}),
        ("shoe_size", 44.0),
    ],
)
def test_a_broken_value_names_its_field(name: str, value: object) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        check_values(SCHEMA, FULL | {name: value})
    assert caught.value.metadata["field"] == f"fields.{name}"


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("tags", ["calm", ""], "tags[1]"),
        ("tags", ["x" * 129], "tags[0]"),
        ("tags", ["a\0b"], "tags[0]"),
        ("tags", [4.0], "tags[0]"),
        ("place", {"lat": 90.1, "lon": 0.0}, "place.lat"),
        ("place", {"lat": math.nan, "lon": 0.0}, "place.lat"),
        ("place", {"lat": 0.0, "lon": -181.0}, "place.lon"),
        ("place", {"lat": 0.0, "lon": True}, "place.lon"),
    ],
)
def test_a_part_of_a_value_that_is_broken_is_named(name: str, value: object, path: str) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        check_values(SCHEMA, FULL | {name: value})
    assert caught.value.metadata["field"] == f"fields.{path}"


def test_heads_read_numbers_and_nan_for_no_value() -> None:
    columns = column_values(SCHEMA, {"age": 31.0, "smoker": True, "goal": "love"})
    assert columns[0] == 31
    assert math.isnan(columns[1])
    assert columns[2:4] == [1.0, 1.0]
    assert all(math.isnan(value) for value in columns[4:])
    assert column_values(SCHEMA, check_values(SCHEMA, FULL))[4] == 86_400.0


def test_the_encoder_reads_what_matters_most_first() -> None:
    assert encoder_text(SCHEMA, FULL, "I sail.") == "honesty\nclimbing\nI sail."  # type: ignore[arg-type]
    assert encoder_text(SCHEMA, {}, "  ") == ""


def test_vectors_are_normalised() -> None:
    vector = check_vector([0.0, 3.0, 4.0, 0.0], 4)
    assert np.allclose(vector, [0, 0.6, 0.8, 0], atol=1e-3)


@pytest.mark.parametrize(
    "vector", [[1.0, 2.0], [0.0] * 4, [math.nan, 1, 1, 1], [math.inf, 1, 1, 1]]
)
def test_a_broken_vector_is_refused(vector: list[float]) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        check_vector(vector, 4)
    assert caught.value.metadata["field"] == "vector"
