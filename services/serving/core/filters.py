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
    compared,
    containing,
    negated,
    one_of,
    present,
)
from services.serving.core.errors import FilterInvalidError

FILTERS_MAX = 64
LIST_VALUES_MAX = 1_000
TEXT_CHARACTERS_MAX = 1_000

_COMPARISONS: Mapping[str, Callable[[Column, float], Mask]] = {
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
_ANY_TYPE = ("in", "not", "not_in", "exists")
_ORDERED = (*_ANY_TYPE, *_COMPARISONS)
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "integer": _ORDERED,
    "number": _ORDERED,
    "timestamp": _ORDERED,
    "boolean": _ANY_TYPE,
    "enum": _ANY_TYPE,
    "string": (*_ANY_TYPE, "contains"),
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
    conditions: list[Condition] = []
    for name, content in filters.items():
        path = f"filters.{name}"
        spec = next((f for f in layout.fields if f.name == name and f.kind == "hard"), None)
        if spec is None:
            raise FilterInvalidError(path, f"is no hard field of the schema {layout.version}")
        if spec.type not in OPERATORS:
            raise FilterInvalidError(path, f"is of the type {spec.type}, which has no filter yet")
        conditions += _read_field(partition, path, spec, content)
    return conditions


def _read_field(
    partition: Partition, path: str, spec: FieldSpec, content: object
) -> list[Condition]:
    if isinstance(content, list):
        content = {"in": content}
    if not isinstance(content, dict):
        return [one_of(partition, spec, [_read_value(partition, path, spec, content)])]
    allowed = OPERATORS[spec.type]
    if not content:
        raise FilterInvalidError(path, f"must name an operator of {', '.join(allowed)}")
    conditions: list[Condition] = []
    for operator, operand in content.items():
        if operator not in allowed:
            rule = f"is no operator for the type {spec.type}; there are {', '.join(allowed)}"
            raise FilterInvalidError(f"{path}.{operator}", rule)
        at = f"{path}.{operator}"
        conditions.append(_read_operator(partition, at, spec, operator, operand))
    return conditions


def _read_operator(
    partition: Partition, path: str, spec: FieldSpec, operator: str, operand: object
) -> Condition:
    match operator:
        case "in" | "not_in":
            values = [_read_value(partition, path, spec, v) for v in _read_list(path, operand)]
            chosen = one_of(partition, spec, values)
            return chosen if operator == "in" else negated(chosen)
        case "not":
            return negated(one_of(partition, spec, [_read_value(partition, path, spec, operand)]))
        case "exists":
            there = present(partition, spec)
            return there if _read_boolean(path, operand) else negated(there)
        case "contains":
            return containing(partition, spec, _read_text(path, operand))
        case _:
            bound = _read_value(partition, path, spec, operand)
            return compared(partition, spec, _COMPARISONS[operator], bound)


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
        case _:
            if not isinstance(value, str):
                raise FilterInvalidError(path, "must be a string")
            codes = partition.string_codes[partition.layout.strings.index(spec)]
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
