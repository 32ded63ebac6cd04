"""What is known of one person: checked values, and what encoder and heads read of them."""

import dataclasses
import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.triplets.core.composite import check_list, check_point
from services.triplets.core.errors import FieldInvalidError
from services.triplets.core.schema import PRIORITIES, Field, Schema

Value = str | float | bool | list[str] | dict[str, float]
Vector = npt.NDArray[np.float16]

STRING_CHARACTERS_MAX = 1_000
TEXT_CHARACTERS_MAX = 20_000
_USER_ID = re.compile(r"[!-.0-~]{1,128}")
USER_ID_RULE = 'must be 1 to 128 printable ASCII characters without "/" and spaces'
NUMBER_MAX = 2**53
"""JSON numbers are doubles: beyond this they stop naming single integers."""


class Provenance(NamedTuple):
    """Where a value comes from."""

    source: str
    """"fields" for one that the caller gave, "extraction" for one that was read out of a text."""
    at: datetime.datetime
    """When it was given, or said."""
    confidence: float = 1.0
    """From 0 to 1."""
    evidence: str = ""
    """The words that it was read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One person in one domain, as stored."""

    user_id: str
    context: str
    values: Mapping[str, Value]
    vector: Vector | None
    """Unit vector [dim], or None for a person without text."""
    encoder: str
    """Where the vector comes from; empty without one."""
    provenance: Mapping[str, Provenance] = dataclasses.field(default_factory=dict)
    """By field name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProfile:
    """A profile and what the store knows about it."""

    profile: Profile
    schema: Schema
    update_time: datetime.datetime
    """When values or vector last changed."""
    revision: int
    """The domain's, when anything of the person last changed."""


def check_user_id(path: str, user_id: str) -> None:
    """Refuses what cannot name a person."""
    if not _USER_ID.fullmatch(user_id):
        raise FieldInvalidError(path, USER_ID_RULE)


def check_values(schema: Schema, values: Mapping[str, object]) -> dict[str, Value]:
    """Returns the values that are not null, each of its field's type, none missing.

    Raises:
        FieldInvalidError: names the first field and the rule it breaks.
    """
    checked = check_types(schema, values)
    check_required(schema, checked)
    return checked


def check_types(schema: Schema, values: Mapping[str, object]) -> dict[str, Value]:
    """Returns the values that are not null, each of its field's type."""
    fields = {field.name: field for field in schema.fields}
    checked: dict[str, Value] = {}
    for name, value in values.items():
        path = f"fields.{name}"
        if name not in fields:
            raise FieldInvalidError(path, f"is no field of the schema {schema.version}")
        if value is not None:
            checked[name] = check_value(path, fields[name], value)
    return checked


def check_required(schema: Schema, values: Mapping[str, Value]) -> None:
    """Refuses values that lack one of a required field."""
    for field in schema.fields:
        if field.required and field.name not in values:
            raise FieldInvalidError(f"fields.{field.name}", "must have a value")


def check_value(path: str, field: Field, value: object) -> Value:
    """Returns the value if it is of the field's type."""
    match field.type:
        case "integer" | "number":
            return _check_number(path, field, value)
        case "boolean":
            if not isinstance(value, bool):
                raise FieldInvalidError(path, "must be true or false")
            return value
        case "enum":
            if value not in field.members:
                members = ", ".join(field.members)
                raise FieldInvalidError(path, f"must be one of {members}")
            return str(value)
        case "timestamp":
            seconds_since_1970(path, value)
            return str(value)
        case "list" | "geo":
            return check_list(path, value) if field.type == "list" else check_point(path, value)
        case _:
            limit = TEXT_CHARACTERS_MAX if field.kind == "soft" else STRING_CHARACTERS_MAX
            return check_text(path, value, limit)


def _check_number(path: str, field: Field, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FieldInvalidError(path, "must be a number")
    # One number that float32, in which heads are learned, cannot hold would spoil its whole domain.
    if abs(value) > NUMBER_MAX:
        raise FieldInvalidError(path, "must be at most 2^53 in size")
    if field.type == "integer" and value != int(value):
        raise FieldInvalidError(path, "must be a whole number")
    return float(value)


def check_text(path: str, value: object, characters_max: int) -> str:
    """Returns the value if it is a text of allowed length that PostgreSQL can store."""
    if not isinstance(value, str):
        raise FieldInvalidError(path, "must be a string")
    if len(value) > characters_max:
        raise FieldInvalidError(path, f"must have at most {characters_max} characters")
    if "\0" in value:
        raise FieldInvalidError(path, "must not contain a NUL character")
    return value


def seconds_since_1970(path: str, value: object) -> float:
    """Reads an RFC 3339 time with its zone."""
    rule = 'must be an RFC 3339 time with its zone, such as "2026-05-17T08:00:00Z"'
    if not isinstance(value, str):
        raise FieldInvalidError(path, rule)
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        raise FieldInvalidError(path, rule) from None
    if moment.tzinfo is None:
        raise FieldInvalidError(path, rule)
    return moment.timestamp()


def encoder_text(
    schema: Schema, values: Mapping[str, Value], context: str, contexts: Sequence[str] = ()
) -> str:
    """What the encoder is given of a person, of which it reads the first that fits its window.

    Soft fields, most important first; then what was appended, newest first; then the context that
    the person came with. Whole texts only, so many as make at most 20,000 characters beside the
    soft fields: more than any window holds.
    """
    soft = [field for field in schema.fields if field.kind == "soft" and field.name in values]
    soft.sort(key=lambda field: PRIORITIES.index(field.priority))
    texts = [str(values[field.name]) for field in soft]
    characters_left = TEXT_CHARACTERS_MAX
    for text in (*contexts, context):
        characters_left -= len(text)
        if characters_left < 0:
            break
        texts.append(text)
    return "\n".join(text for text in texts if text.strip())


def column_values(schema: Schema, values: Mapping[str, Value]) -> list[float]:
    """The person as heads read them: a number per column of the schema, NaN for no value."""
    return [_column_value(field, values.get(field.name)) for field in schema.columns]


def _column_value(field: Field, value: Value | None) -> float:
    if value is None:
        return math.nan
    if field.type == "enum":
        return float(field.members.index(str(value)))
    if field.type == "timestamp":
        return seconds_since_1970(field.name, value)
    assert isinstance(value, int | float)  # the types of columns
    return float(value)


def check_vector(vector: list[float], dim: int) -> Vector:
    """Normalises a caller's vector.

    Raises:
        FieldInvalidError: wrong length, not finite, or zero.
    """
    if len(vector) != dim:
        raise FieldInvalidError("vector", f"must have {dim} numbers, the domain's dimension")
    array = np.asarray(vector, dtype=np.float64)
    norm = float(np.linalg.norm(array))
    if not math.isfinite(norm) or norm == 0:
        raise FieldInvalidError("vector", "must be finite and not zero")
    return (array / norm).astype(np.float16)
