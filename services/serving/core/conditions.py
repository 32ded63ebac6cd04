"""Conditions on one column: which rows of a view meet them.

A row without a value has NaN in a column of numbers and -1 in one of strings, and meets nothing
but what is negated.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import FieldSpec, Mask, Partition, View

Condition = Callable[[View], Mask]
Column = npt.NDArray[Any]

NOBODYS_CODE = -2
"""Of a string that nobody has."""


def compared(
    partition: Partition, spec: FieldSpec, compare: Callable[[Column, float], Mask], bound: float
) -> Condition:
    """Values on one side of a bound."""
    column = _column(partition, spec)
    return lambda view: compare(column(view), bound)  # NaN compares false


def one_of(partition: Partition, spec: FieldSpec, values: Sequence[float]) -> Condition:
    """Values that are among some, as the column holds them."""
    column = _column(partition, spec)
    if len(values) == 1:
        return lambda view: np.equal(column(view), values[0])
    return lambda view: np.isin(column(view), values)


def present(partition: Partition, spec: FieldSpec) -> Condition:
    """Any value."""
    column = _column(partition, spec)
    if spec.type == "string":
        return lambda view: np.greater_equal(column(view), 0)
    return lambda view: ~np.isnan(column(view))


def containing(partition: Partition, spec: FieldSpec, text: str) -> Condition:
    """Strings that a text is part of, in upper or lower case alike."""
    column = _column(partition, spec)
    codes = partition.string_codes[partition.layout.strings.index(spec)]
    wanted = text.casefold()

    def holds(view: View) -> Mask:
        # Taken at once, in the order of their codes: others may come in meanwhile.
        strings = list(codes)
        holding = np.array([wanted in string.casefold() for string in strings] + [False])
        found: Mask = holding[column(view)]  # -1 is the last
        return found

    return holds


def negated(condition: Condition) -> Condition:
    """Whoever does not meet a condition."""
    return lambda view: ~condition(view)


def remembered(conditions: Sequence[Condition]) -> list[Condition]:
    """All conditions as one, which looks at a view once however many seekers ask."""
    if not conditions:
        return []
    known: tuple[View, Mask] | None = None

    def hold(view: View) -> Mask:
        nonlocal known
        if known is None or known[0] is not view:
            mask = conditions[0](view)
            for condition in conditions[1:]:
                mask = mask & condition(view)
            known = view, mask
        return known[1]

    return [hold]


def _column(partition: Partition, spec: FieldSpec) -> Callable[[View], Column]:
    layout = partition.layout
    if spec.type == "string":
        place = layout.strings.index(spec)
        return lambda view: view.codes[place][: view.size]
    index = layout.columns.index(spec)
    return lambda view: view.columns[index][: view.size]
