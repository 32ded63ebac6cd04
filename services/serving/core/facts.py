"""What is known of a person, in values that people can read."""

import datetime
from collections.abc import Sequence

import numpy as np

from services.serving.core.candidates import FieldSpec, Partition, Rows, View

Value = str | float | bool
Facts = dict[str, Value]
"""Values by field name; a field without a value is absent."""


def read_facts(partition: Partition, view: View, rows: Rows) -> list[Facts]:
    """Hard and derived fields of the people in some rows. Texts stay in the triplet store."""
    layout = partition.layout
    found: list[Facts] = [{} for _ in rows]
    for spec, column in zip(layout.columns, view.columns, strict=True):
        for facts, value in zip(found, column[rows].tolist(), strict=True):
            if not np.isnan(value):
                facts[spec.name] = _readable(spec, value)
    for spec, known, codes in zip(layout.strings, partition.string_codes, view.codes, strict=True):
        strings: Sequence[str] = list(known)  # in the order of their codes
        for facts, code in zip(found, codes[rows].tolist(), strict=True):
            if code >= 0:
                facts[spec.name] = strings[code]
    return found


def _readable(spec: FieldSpec, value: float) -> Value:
    match spec.type:
        case "boolean":
            return bool(value)
        case "enum":
            return spec.members[int(value)]
        case "timestamp":
            moment = datetime.datetime.fromtimestamp(value, datetime.UTC)
            return moment.isoformat().replace("+00:00", "Z")
        case _:
            return int(value) if value == int(value) else value
