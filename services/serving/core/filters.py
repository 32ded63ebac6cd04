"""Filters: the JSON of a request read into conditions.

A filter on a field is a value (equal), a list (one of), or an object of operators, all of which
must hold. A person without a value for the field meets none of them but "not", "not_in" and
{"exists": false}.
"""

import datetime
import math
from collections.abc import Callable, Mapping

import numpy as np

from services.serving.core.candidates import FieldSpec, Mask, Partition
from services.serving.core.conditions import (
    NOBODYS_CODE,
    Column,
    Condition,
    NearSeeker,
    all_of,
    compared,
    containing,
    near,
    negated,
    one_of,
    present,
)
from services.serving.core.errors import FilterInvalidError

FILTERS_MAX = 64
LIST_VALUES_MAX = 1_000
TEXT_CHARACTERS_MAX = 1_000
WITHIN_KM_MAX = 20_040.0
"""Half way round the Earth."""
WITHIN = "_within_km"
"""After a geo field's name: its "within_km" alone."""

_COMPARISONS: Mapping[str, Callable[[Column, float], Mask]] = {
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
_ONE_VALUE = ("in", "not", "not_in", "exists")
_ORDERED = (*_ONE_VALUE, *_COMPARISONS)
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "integer": _ORDERED,
    "number": _ORDERED,
    "timestamp": _ORDERED,
    "boolean": _ONE_VALUE,
    "enum": _ONE_VALUE,
    "string": (*_ONE_VALUE, "contains"),
    "list": ("contains", "any", "all", "not", "exists"),
    "geo": ("within_km", "of", "exists"),
}
"""What may be asked of a field, by its type."""


def read_filters(partition: Partition, filters: Mapping[str, object]) -> list[Condition]:
    """Turns the JSON of a request into conditions.

    Raises:
        FilterInvalidError: names the field and the rule that it breaks.
    """
    if len(filters) > FILTERS_MAX:
        raise FilterInvalidError("filters", f"must be at most {FILTERS_MAX}")
    layout = partition.layout
    hard = {field.name: field for field in layout.fields if field.kind == "hard"}
    conditions: list[Condition] = []
    for name, content in filters.items():
        path, place = f"filters.{name}", hard.get(name.removesuffix(WITHIN))
        if name in hard:
            conditions += _read_field(partition, path, hard[name], content)
        elif name.endswith(WITHIN) and place is not None and place.type == "geo":
            conditions.append(_read_radius(partition, path, place, content))
        else:
            raise FilterInvalidError(path, f"is no hard field of the schema {layout.version}")
    return conditions


def _read_field(
    partition: Partition, path: str, spec: FieldSpec, content: object
) -> list[Condition]:
    allowed = OPERATORS[spec.type]
    if isinstance(content, list):
        content = {"any" if spec.type == "list" else "in": content}
    elif not isinstance(content, dict) and spec.type != "geo":
        return [one_of(partition, spec, [_read_value(partition, path, spec, content)])]
    if not isinstance(content, dict) or not content:
        raise FilterInvalidError(path, f"must name an operator of {', '.join(allowed)}")
    for operator in content:
        if operator not in allowed:
            rule = f"is no operator for the type {spec.type}; there are {', '.join(allowed)}"
            raise FilterInvalidError(f"{path}.{operator}", rule)
    centre = None
    if "of" in content:
        if "within_km" not in content:
            raise FilterInvalidError(f"{path}.of", 'needs "within_km" beside it')
        centre = _read_point(f"{path}.of", content["of"])
    return [
        _read_radius(partition, f"{path}.{operator}", spec, operand, centre)
        if operator == "within_km"
        else _read_operator(partition, f"{path}.{operator}", spec, operator, operand)
        for operator, operand in content.items()
        if operator != "of"
    ]


def _read_operator(
    partition: Partition, path: str, spec: FieldSpec, operator: str, operand: object
) -> Condition:
    def read(value: object) -> float:
        return _read_value(partition, path, spec, value)

    if operator == "exists":
        there = present(partition, spec)
        return there if _read_boolean(path, operand) else negated(there)
    if operator == "contains" and spec.type == "string":
        return containing(partition, spec, _read_text(path, operand))
    if operator in _COMPARISONS:
        return compared(partition, spec, _COMPARISONS[operator], read(operand))
    operands = [operand] if operator in {"contains", "not"} else _read_list(path, operand)
    values = [read(value) for value in operands]
    if operator == "all":
        return all_of(partition, spec, values)
    chosen = one_of(partition, spec, values)
    return negated(chosen) if operator in {"not", "not_in"} else chosen


def _read_radius(
    partition: Partition,
    path: str,
    spec: FieldSpec,
    content: object,
    centre: tuple[float, float] | None = None,
) -> Condition:
    """A radius around a point; around the seeker's own if none is given."""
    within_km = _read_number(path, content)
    if not 0 < within_km <= WITHIN_KM_MAX:
        raise FilterInvalidError(path, f"must be above 0 and at most {WITHIN_KM_MAX:g}")
    if centre is None:
        return NearSeeker(partition.layout.points.index(spec), within_km, path)
    return near(partition, spec, within_km, centre)


def _read_point(path: str, content: object) -> tuple[float, float]:
    if not isinstance(content, dict) or set(content) != {"lat", "lon"}:
        raise FilterInvalidError(path, 'must be {"lat": …, "lon": …} in degrees')
    latitude = _read_number(f"{path}.lat", content["lat"])
    longitude = _read_number(f"{path}.lon", content["lon"])
    if abs(latitude) > 90:
        raise FilterInvalidError(f"{path}.lat", "must be from -90 to 90")
    if abs(longitude) > 180:
        raise FilterInvalidError(f"{path}.lon", "must be from -180 to 180")
    return latitude, longitude


def _read_list(path: str, content: object) -> list[object]:
    if not isinstance(content, list) or not 1 <= len(content) <= LIST_VALUES_MAX:
        raise FilterInvalidError(path, f"must be a list of 1 to {LIST_VALUES_MAX} values")
    return content


def _read_boolean(path: str, content: object) -> bool:
    if not isinstance(content, bool):
        raise FilterInvalidError(path, "must be true or false")
    return content


def _read_text(path: str, content: object) -> str:
    if not isinstance(content, str) or not 1 <= len(content) <= TEXT_CHARACTERS_MAX:
        rule = f"must be a string of 1 to {TEXT_CHARACTERS_MAX} characters"
        raise FilterInvalidError(path, rule)
    return content


def _read_value(partition: Partition, path: str, spec: FieldSpec, value: object) -> float:
    """A value as the column holds it; strings become codes."""
    if value is None:
        raise FilterInvalidError(path, 'must be a value; {"exists": false} asks for none')
    layout = partition.layout
    match spec.type:
        case "integer" | "number":
            return _read_number(path, value)
        case "boolean":
            return float(_read_boolean(path, value))
        case "enum":
            if value not in spec.members:
                raise FilterInvalidError(path, f"must be one of {', '.join(spec.members)}")
            return float(spec.members.index(str(value)))
        case "timestamp":
            return _read_time(path, value)
        case "list":
            return _read_code(path, partition.list_codes[layout.lists.index(spec)], value)
        case _:
            return _read_code(path, partition.string_codes[layout.strings.index(spec)], value)


def _read_code(path: str, codes: Mapping[str, int], value: object) -> float:
    if not isinstance(value, str):
        raise FilterInvalidError(path, "must be a string")
    return float(codes.get(value, NOBODYS_CODE))


def _read_number(path: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FilterInvalidError(path, "must be a number")
    if not math.isfinite(value):
        raise FilterInvalidError(path, "must be finite")
    return float(value)


def _read_time(path: str, value: object) -> float:
    rule = 'must be an RFC 3339 time with its zone, such as "2026-05-17T08:00:00Z"'
    try:
        moment = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        raise FilterInvalidError(path, rule) from None
    if moment.tzinfo is None:
        raise FilterInvalidError(path, rule)
    return moment.timestamp()
