"""Bringing many people in at once: a batch a transaction, and a broken row spoils no other."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.triplets.core.errors import FieldInvalidError, TripletsError
from services.triplets.core.ports import DomainUnit, Encoder
from services.triplets.core.profile import (
    TEXT_CHARACTERS_MAX,
    Profile,
    Provenance,
    Value,
    Vector,
    check_text,
    check_user_id,
    check_values,
    column_values,
    encoder_text,
)
from services.triplets.core.schema import CALLER, Schema

ROWS_MAX = 1_000
TEXTS_PER_CALL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A person as a batch describes them."""

    user_id: str
    context: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row, by its place in the batch."""

    index: int
    error: TripletsError


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """People who are ready to be stored, each once, and the rows that are not."""

    profiles: Sequence[Profile]
    errors: Sequence[RowError]


@dataclass(frozen=True, slots=True)
class _Sound:
    row: UserRow
    values: Mapping[str, Value]
    vector: Vector | None


async def prepare_batch(
    schema: Schema,
    encoder: Encoder,
    rows: Sequence[UserRow],
    vectors: npt.NDArray[np.float32],
    now: datetime.datetime,
) -> PreparedBatch:
    """Checks rows and gives them their vectors: the callers' own, or the encoder's. Stores nothing.

    Of several rows under one id the last stands.

    Args:
        schema: the domain's.
        encoder: for a domain whose vectors it makes.
        rows: at most 1,000.
        vectors: [rows, dim]; zeros for a person without one. [0, 0] where none are given.
        now: when the values were given.

    Raises:
        FieldInvalidError: something is wrong with the batch as a whole.
    """
    if not 1 <= len(rows) <= ROWS_MAX:
        raise FieldInvalidError("users", f"must be 1 to {ROWS_MAX}")
    given = _normalise(schema, rows, vectors)
    sound: dict[str, _Sound] = {}
    errors: list[RowError] = []
    for index, row in enumerate(rows):
        try:
            sound[row.user_id] = _check(schema, row, None if given is None else given[index])
        except TripletsError as error:
            errors.append(RowError(index, error))
    people = list(sound.values())
    made = [person.vector for person in people]
    if schema.encoder != CALLER:
        made = await _encode(schema, encoder, people)
    profiles = [
        _profile(schema, person, vector, now) for person, vector in zip(people, made, strict=True)
    ]
    return PreparedBatch(profiles, errors)


async def save_batch(unit: DomainUnit, batch: PreparedBatch) -> None:
    """Stores a prepared batch; successors of the schema that it was checked by keep it valid."""
    schema = unit.schema
    if batch.profiles:
        await unit.save_profiles([(p, column_values(schema, p.values)) for p in batch.profiles])


def _normalise(
    schema: Schema, rows: Sequence[UserRow], vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float16] | None:
    """Unit vectors, zeros for a row without, NaN for one that is not finite."""
    if not vectors.size:
        return None
    if schema.encoder != CALLER:
        rule = f"must be absent: vectors of this domain come from {schema.encoder}"
        raise FieldInvalidError("vectors", rule)
    if vectors.shape != (len(rows), schema.dim):
        raise FieldInvalidError("vectors", f"must be {schema.dim} numbers for each user")
    # In float64, where the square of no float32 is infinite or zero.
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    norms[norms == 0] = 1
    with np.errstate(invalid="ignore"):
        unit: npt.NDArray[np.float16] = (wide / norms).astype(np.float16)
    return unit


def _check(schema: Schema, row: UserRow, vector: Vector | None) -> _Sound:
    check_user_id("user_id", row.user_id)
    context = check_text("context", row.context, TEXT_CHARACTERS_MAX)
    values = check_values(schema, row.values)
    if vector is not None and not np.isfinite(vector).all():
        raise FieldInvalidError("vectors", "must be finite")
    if vector is not None and not vector.any():
        vector = None
    if not (context or values or vector is not None):
        raise FieldInvalidError("context", "must be given unless fields or a vector are")
    return _Sound(row, values, vector)


async def _encode(
    schema: Schema, encoder: Encoder, people: Sequence[_Sound]
) -> list[Vector | None]:
    texts = [encoder_text(schema, person.values, person.row.context) for person in people]
    places = [place for place, text in enumerate(texts) if text]
    made: list[Vector | None] = [None] * len(people)
    for start in range(0, len(places), TEXTS_PER_CALL):
        some = places[start : start + TEXTS_PER_CALL]
        encoded = await encoder.encode([texts[place] for place in some])
        for place, vector in zip(some, encoded, strict=True):
            made[place] = vector
    return made


def _profile(
    schema: Schema, person: _Sound, vector: Vector | None, now: datetime.datetime
) -> Profile:
    return Profile(
        user_id=person.row.user_id,
        context=person.row.context,
        values=person.values,
        vector=vector,
        encoder="" if vector is None else schema.encoder,
        provenance=dict.fromkeys(person.values, Provenance("fields", now)),
    )
