"""Structs from the wire: every kind of value, and numbers that JSON cannot say."""

import math

import pytest
from google.protobuf import json_format, struct_pb2

from services.chassis.structs import read_struct, read_value

CONTENT = {
    "nothing": None,
    "yes": True,
    "no": False,
    "whole": 30.0,
    "part": 0.5,
    "text": "thirty",
    "list": [1.0, "one", [None]],
    "object": {"gte": 18.0, "in": []},
}


def test_a_struct_is_read_as_the_json_that_it_stands_for() -> None:
    struct = json_format.ParseDict(CONTENT, struct_pb2.Struct())
    found = read_struct(struct)
    assert found == CONTENT
    assert {name: type(found[name]) for name in found} == {n: type(v) for n, v in CONTENT.items()}


def test_names_come_in_their_order() -> None:
    names = [f"field_{number:02d}" for number in range(40)]
    struct = json_format.ParseDict(dict.fromkeys(names[::-1], 1), struct_pb2.Struct())
    assert list(read_struct(struct)) == names


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_numbers_that_json_cannot_say_pass(number: float) -> None:
    assert read_value(struct_pb2.Value(number_value=number)) == number
    nan = read_value(struct_pb2.Value(number_value=math.nan))
    assert isinstance(nan, float)
    assert math.isnan(nan)


def test_a_value_of_no_kind_is_nothing() -> None:
    assert read_value(struct_pb2.Value()) is None
