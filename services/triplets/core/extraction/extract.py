"""Typed values of a person from what is said of them, for the fields that nobody gave.

Numbers by a grammar, places by a gazetteer, members of enums by the encoder; or, where one is
configured, all of them by a language model, whose answers are checked like a caller's and must
quote the text. When it fails the rest takes over. In doubt there is no value.
"""

import datetime
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from services.triplets.core.errors import FieldInvalidError
from services.triplets.core.extraction.found import Found, found
from services.triplets.core.extraction.members import (
    Vectors,
    member_texts,
    read_member,
    readable,
)
from services.triplets.core.extraction.numbers import read_numbers
from services.triplets.core.extraction.places import read_place, resolve
from services.triplets.core.extraction.plain import read_plain
from services.triplets.core.extraction.ports import Gazetteer, Place, Reader, ReaderFailedError
from services.triplets.core.ports import Encoder
from services.triplets.core.profile import Provenance, Value, check_value
from services.triplets.core.schema import CALLER, Field, Schema

EXTRACTION = "extraction"
MEMBERS_READ_MAX = 64
"""An enum of more members is not read: each costs the encoder some milliseconds once."""
REMEMBERED_FIELDS_MAX = 1_000
READER_CONFIDENCE_MIN = 0.5
PLACE_NAMES = frozenset({"location", "city", "town"})
"""String fields of these names are places."""


@dataclass(frozen=True, slots=True)
class Added:
    """Values that a text adds to a person's, and where they come from."""

    values: dict[str, Value]
    provenance: dict[str, Provenance]


def added_values(
    known: Mapping[str, Provenance], read: Mapping[str, Found], at: datetime.datetime
) -> Added:
    """Of what was read, that which stands: nothing over a given value, nor over a later word."""
    standing = {
        name: one
        for name, one in read.items()
        if name not in known or (known[name].source == EXTRACTION and known[name].at <= at)
    }
    return Added(
        {name: one.value for name, one in standing.items()},
        {
            name: Provenance(EXTRACTION, at, one.confidence, one.evidence)
            for name, one in standing.items()
        },
    )


class Extractor:
    """Reads fields out of texts."""

    def __init__(
        self, encoder: Encoder, gazetteer: Gazetteer, reader: Reader | None = None
    ) -> None:
        self._encoder = encoder
        self._gazetteer = gazetteer
        self._reader = reader
        self._members: OrderedDict[tuple[str, ...], Vectors] = OrderedDict()

    async def extract(self, schema: Schema, text: str, given: Collection[str]) -> dict[str, Found]:
        """Returns values by field name, none for a field that is given.

        A domain whose vectors are the callers' own has no encoder, so its enums are not read.

        Raises:
            EncoderUnavailableError: the encoder cannot be reached.
        """
        fields = [f for f in schema.fields if f.kind != "soft" and f.name not in given]
        if not fields or not text.strip():
            return {}
        if self._reader is not None:
            try:
                return checked(fields, await self._reader.read(fields, text), text)
            except ReaderFailedError:
                pass  # the rest reads what it can
        numeric = [f for f in fields if f.type in {"integer", "number"}]
        findings = read_numbers(numeric, text, schema.fields)
        findings |= read_plain(fields, text)
        findings |= self._read_places(fields, text)
        if schema.encoder != CALLER:
            findings |= await self._read_members(fields, text)
        return findings

    def resolve_places(self, schema: Schema, values: Mapping[str, object]) -> dict[str, object]:
        """Returns values in which places that are named for a geo field have become points.

        Raises:
            FieldInvalidError: a name that means no place, or too many.
        """
        resolved = dict(values)
        for field in schema.fields:
            name = values.get(field.name)
            if field.type != "geo" or not isinstance(name, str):
                continue
            place = resolve(self._gazetteer, name)
            if place is None:
                rule = 'must be a point or a known place, such as "Paris, TX" or "Paris, France"'
                raise FieldInvalidError(f"fields.{field.name}", rule)
            resolved[field.name] = place_value(field, place[0])
        return resolved

    def _read_places(self, fields: Sequence[Field], text: str) -> dict[str, Found]:
        wanted = [f for f in fields if _is_place(f)]
        said = read_place(self._gazetteer, text) if wanted else None
        if said is None:
            return {}
        place, confidence, evidence = said
        return {f.name: found(place_value(f, place), confidence, evidence) for f in wanted}

    async def _read_members(self, fields: Sequence[Field], text: str) -> dict[str, Found]:
        enums = [f for f in fields if f.type == "enum" and len(f.members) <= MEMBERS_READ_MAX]
        texts = readable(text) if enums else []
        if not texts:
            return {}
        vectors = await self._encoder.encode(texts)
        findings = {}
        for field in enums:
            result = read_member(field, texts, vectors, await self._member_vectors(field))
            if result is not None:
                findings[field.name] = result
        return findings

    async def _member_vectors(self, field: Field) -> Vectors:
        """Vectors of a field's members, remembered: schemas are few, texts are many."""
        texts = tuple(member_texts(field))
        if texts not in self._members:
            self._members[texts] = await self._encoder.encode(texts)
            if len(self._members) > REMEMBERED_FIELDS_MAX:
                self._members.popitem(last=False)
        return self._members[texts]


def _is_place(field: Field) -> bool:
    return field.type == "geo" or (field.type == "string" and field.name in PLACE_NAMES)


def place_value(field: Field, place: Place) -> Value:
    """A place as its field says it: a point, a city's name, or that with its state or country."""
    if field.type == "geo":
        return {"lat": place.lat, "lon": place.lon}
    if field.name == "location":
        return f"{place.name}, {place.region if place.country == 'US' else place.country}"
    return place.name


def checked(fields: Sequence[Field], readings: Mapping[str, object], text: str) -> dict[str, Found]:
    """What stands of a language model's readings: values of their field's type, quoted, sure."""
    said = _plain(text)
    results = {}
    for field in fields:
        reading = readings.get(field.name)
        if not isinstance(reading, Mapping) or reading.get("value") is None:
            continue
        quote, confidence = reading.get("quote"), reading.get("confidence")
        if not isinstance(quote, str) or not _plain(quote) or _plain(quote) not in said:
            continue
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            continue
        if not READER_CONFIDENCE_MIN <= confidence <= 1:
            continue
        try:
            value = check_value(field.name, field, reading["value"])
        except FieldInvalidError:
            continue
        results[field.name] = found(value, float(confidence), quote)
    return results


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
