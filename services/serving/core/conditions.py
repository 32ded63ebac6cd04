"""Conditions on one column: which rows of a view meet them, for the seeker in some row.

A row without a value has NaN in a column of numbers or points, -1 in one of strings and no entry in
one of lists. It meets nothing but what is negated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import FieldSpec, Mask, Partition, View
from services.serving.core.distance import distances_km
from services.serving.core.errors import FilterInvalidError
from services.serving.core.list_codes import ListCodes

Condition = Callable[[View, int], Mask]
Column = npt.NDArray[Any]

NOBODYS_CODE = -2
"""Of a string that nobody has."""


def compared(
    partition: Partition, spec: FieldSpec, compare: Callable[[Column, float], Mask], bound: float
) -> Condition:
    """Values on one side of a bound."""
    column = _column(partition, spec)
    return lambda view, _: compare(column(view), bound)  # NaN compares false


def one_of(partition: Partition, spec: FieldSpec, values: Sequence[float]) -> Condition:
    """Values that are among some, as the column holds them; of a list, any that is."""
    if spec.type == "list":
        return _owned(partition, spec, lambda entries: np.isin(entries.codes, values))
    column = _column(partition, spec)
    if len(values) == 1:
        return lambda view, _: np.equal(column(view), values[0])
    return lambda view, _: np.isin(column(view), values)


def all_of(partition: Partition, spec: FieldSpec, values: Sequence[float]) -> Condition:
    """Lists that hold each of some values."""
    wanted = np.unique(values)
    place = partition.layout.lists.index(spec)

    def hold(view: View, _: int) -> Mask:
        entries = view.lists[place]
        found = np.isin(entries.codes, wanted)
        pairs = np.stack([entries.owners[found], entries.codes[found]])
        owners = np.unique(pairs, axis=1)[0]  # a value that stands there twice counts once
        held: Mask = np.bincount(owners, minlength=view.size)[: view.size] == len(wanted)
        return held

    return hold


def present(partition: Partition, spec: FieldSpec) -> Condition:
    """Any value."""
    if spec.type == "list":
        return _owned(partition, spec, lambda entries: np.ones(len(entries.owners), np.bool_))
    if spec.type == "geo":
        place = partition.layout.points.index(spec)
        return lambda view, _: ~np.isnan(view.points[place][: view.size, 0])
    column = _column(partition, spec)
    if spec.type == "string":
        return lambda view, _: np.greater_equal(column(view), 0)
    return lambda view, _: ~np.isnan(column(view))


def containing(partition: Partition, spec: FieldSpec, text: str) -> Condition:
    """Strings that a text is part of, in upper or lower case alike."""
    column = _column(partition, spec)
    codes = partition.string_codes[partition.layout.strings.index(spec)]
    wanted = text.casefold()

    def hold(view: View, _: int) -> Mask:
        # Taken at once, in the order of their codes: others may come in meanwhile.
        strings = list(codes)
        holding = np.array([wanted in string.casefold() for string in strings] + [False])
        found: Mask = holding[column(view)]  # -1 is the last
        return found

    return hold


def negated(condition: Condition) -> Condition:
    """Whoever does not meet a condition."""
    return lambda view, seeker: ~condition(view, seeker)


def near(
    partition: Partition, spec: FieldSpec, within_km: float, point: tuple[float, float]
) -> Condition:
    """Points at most so far from one."""
    place = partition.layout.points.index(spec)
    return lambda view, _: distances_km(view.points[place][: view.size], *point) <= within_km


@dataclass(frozen=True, slots=True)
class NearSeeker:
    """Points at most so far from the seeker's own: the one condition that asks who asks."""

    place: int
    within_km: float
    path: str
    """Where the request says so."""

    def __call__(self, view: View, seeker: int) -> Mask:
        """Which rows meet it.

        Raises:
            FilterInvalidError: the seeker has no point.
        """
        points = view.points[self.place][: view.size]
        latitude, longitude = points[seeker].tolist()
        if np.isnan(latitude):
            rule = 'needs the seeker\'s own place, which is not known; "of" gives another'
            raise FilterInvalidError(self.path, rule)
        return distances_km(points, latitude, longitude) <= self.within_km


def remembered(conditions: Sequence[Condition]) -> list[Condition]:
    """The same as few: what does not depend on who asks is looked at once a view."""
    own: list[Condition] = [c for c in conditions if isinstance(c, NearSeeker)]
    shared = [condition for condition in conditions if not isinstance(condition, NearSeeker)]
    if not shared:
        return own
    known: tuple[View, Mask] | None = None

    def hold(view: View, seeker: int) -> Mask:
        nonlocal known
        if known is None or known[0] is not view:
            mask = shared[0](view, seeker)
            for condition in shared[1:]:
                mask = mask & condition(view, seeker)
            known = view, mask
        return known[1]

    return [hold, *own]


def _owned(partition: Partition, spec: FieldSpec, choose: Callable[[ListCodes], Mask]) -> Condition:
    """Rows with an entry that is chosen."""
    place = partition.layout.lists.index(spec)

    def hold(view: View, _: int) -> Mask:
        entries = view.lists[place]
        mask = np.zeros(view.size, np.bool_)
        mask[entries.owners[choose(entries)]] = True
        return mask

    return hold


def _column(partition: Partition, spec: FieldSpec) -> Callable[[View], Column]:
    layout = partition.layout
    if spec.type == "string":
        place = layout.strings.index(spec)
        return lambda view: view.codes[place][: view.size]
    index = layout.columns.index(spec)
    return lambda view: view.columns[index][: view.size]
