"""Conditions on hard fields: read from JSON, applied to columns.

A condition on a field is a value (equal), a list (one of), or an object of operators, all of which
must hold. A person without a value for the field meets no condition but "not" and "not_in".
"""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import FieldSpec, Mask, Partition, View
from services.serving.core.errors import FilterInvalidError

FILTERS_MAX = 64
LIST_VALUES_MAX = 1_000
_ORDERED = frozenset({"integer", "number", "timestamp"})

Condition = Callable[[View], Mask]
Column = npt.NDArray[Any]

_COMPARISONS: Mapping[str, Callable[[Column, float], Mask]] = {
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
OPERATORS = (*_COMPARISONS, "in", "not_in", "not")


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
        conditions += _read_field(partition, path, spec, content)
    return conditions


def _read_field(
    partition: Partition, path: str, spec: FieldSpec, content: object
) -> list[Condition]:
    if isinstance(content, list):
        content = {"in": content}
    if not isinstance(content, dict):
        return [_one_of(partition, spec, [_read_value(partition, path, spec, content)])]
    conditions: list[Condition] = []
    for operator, operand in content.items():
        at = f"{path}.{operator}"
        if operator in _COMPARISONS:
            if spec.type not in _ORDERED:
                raise FilterInvalidError(at, f"does not apply to the type {spec.type}")
            bound = _read_value(partition, at, spec, operand)
            conditions.append(_compared(partition, spec, _COMPARISONS[operator], bound))
        elif operator in {"in", "not_in", "not"}:
            operands = [operand] if operator == "not" else _read_list(at, operand)
            values = [_read_value(partition, at, spec, value) for value in operands]
            chosen = _one_of(partition, spec, values)
            conditions.append(chosen if operator == "in" else _negated(chosen))
        else:
            raise FilterInvalidError(at, f"is no operator; there are {', '.join(OPERATORS)}")
    if not conditions:
        raise FilterInvalidError(path, f"must name an operator of {', '.join(OPERATORS)}")
    return conditions


def _read_list(path: str, content: object) -> list[object]:
    if not isinstance(content, list) or not 1 <= len(content) <= LIST_VALUES_MAX:
        raise FilterInvalidError(path, f"must be a list of 1 to {LIST_VALUES_MAX} values")
    return content


def _read_value(partition: Partition, path: str, spec: FieldSpec, value: object) -> float:
    """A value as the column holds it; strings become codes, -2 for one that nobody has."""
    match spec.type:
        case "integer" | "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FilterInvalidError(path, "must be a number")
            if not math.isfinite(value):
                raise FilterInvalidError(path, "must be finite")
            return float(value)
        case "boolean":
            if not isinstance(value, bool):
                raise FilterInvalidError(path, "must be true or false")
            return float(value)
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
            return float(codes.get(value, -2))


def _read_time(path: str, value: object) -> float:
    rule = 'must be an RFC 3339 time with its zone, such as "2026-05-17T08:00:00Z"'
    try:
        moment = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        raise FilterInvalidError(path, rule) from None
    if moment.tzinfo is None:
        raise FilterInvalidError(path, rule)
    return moment.timestamp()


def _column(partition: Partition, spec: FieldSpec) -> Callable[[View], Column]:
    layout = partition.layout
    if spec.type == "string":
        place = layout.strings.index(spec)
        return lambda view: view.codes[place][: view.size]
    index = layout.columns.index(spec)
    return lambda view: view.columns[index][: view.size]


def _compared(
    partition: Partition, spec: FieldSpec, compare: Callable[[Column, float], Mask], bound: float
) -> Condition:
    column = _column(partition, spec)
    return lambda view: compare(column(view), bound)  # NaN compares false


def _one_of(partition: Partition, spec: FieldSpec, values: list[float]) -> Condition:
    column = _column(partition, spec)
    if len(values) == 1:
        return lambda view: np.equal(column(view), values[0])
    return lambda view: np.isin(column(view), values)


def _negated(condition: Condition) -> Condition:
    return lambda view: ~condition(view)
