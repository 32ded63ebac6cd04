"""What serving filters people by and heads do not read: strings, lists and points, by field."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from services.triplets.core.schema import Schema

Values = Sequence[Mapping[str, object]]
"""Checked values of some people."""


def string_columns(schema: Schema, values: Values) -> dict[str, list[str]]:
    """Hard strings; empty for no value."""
    return {name: [str(v.get(name, "")) for v in values] for name in _names(schema, "string")}


def list_columns(schema: Schema, values: Values) -> dict[str, list[list[str]]]:
    """Lists; empty for no value."""
    return {name: [_list(v.get(name)) for v in values] for name in _names(schema, "list")}


def point_columns(schema: Schema, values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """Latitude and longitude [people, 2]; NaN for no value."""
    return {
        name: np.array([_point(v.get(name)) for v in values], np.float64).reshape(-1, 2)
        for name in _names(schema, "geo")
    }


def _names(schema: Schema, kind: str) -> list[str]:
    return [field.name for field in schema.fields if field.kind == "hard" and field.type == kind]


def _list(value: object) -> list[str]:
    return value if isinstance(value, list) else []


def _point(value: object) -> tuple[float, float]:
    return (value["lat"], value["lon"]) if isinstance(value, dict) else (math.nan, math.nan)
