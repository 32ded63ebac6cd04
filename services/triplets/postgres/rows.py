"""Rows of PostgreSQL as values and arrays, and back."""

import dataclasses
import datetime
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import numpy as np
import numpy.typing as npt

from services.triplets.core.filter_columns import list_columns, point_columns, string_columns
from services.triplets.core.label import Label
from services.triplets.core.outcome import micros, standing_of
from services.triplets.core.pages import Pages
from services.triplets.core.ports import (
    DomainCounts,
    PairBatch,
    ProfileBatch,
    SharedPart,
    TallyBatch,
)
from services.triplets.core.profile import Profile, Provenance, StoredProfile
from services.triplets.core.schema import Field, Schema
from services.triplets.core.tally import Tally

Number = TypeVar("Number", np.float16, np.float64)

_COPY_HEADER_BYTES = 19
_COPY_TRAILER_BYTES = 2
_EPOCH_MICROS = 946_684_800_000_000  # PostgreSQL counts from 2000, we from 1970
OUTCOME_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(
            part
            for name, kind in (
                ("seeker", ">i4"),
                ("candidate", ">i4"),
                ("level", ">i2"),
                ("weight", ">f8"),
                ("occurred_at", ">i8"),
            )
            for part in ((f"{name}_bytes", ">i4"), (name, kind))
        ),
    ]
)
"""A row of COPY BINARY: columns of fixed size without nulls, so a whole result is one array."""


def read_outcomes(content: memoryview) -> npt.NDArray[np.void]:
    """A result of COPY BINARY: outcomes as a structured array."""
    return np.frombuffer(content[_COPY_HEADER_BYTES:-_COPY_TRAILER_BYTES], OUTCOME_ROW)


def outcome_micros(outcomes: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """When outcomes occurred, in microseconds since 1970."""
    micros: npt.NDArray[np.int64] = outcomes["occurred_at"].astype(np.int64) + _EPOCH_MICROS
    return micros


def read_pages(rows: list[asyncpg.Record]) -> Pages:
    """Pages that were logged; see logged_pages."""
    sizes = [len(row["candidates"]) for row in rows]

    def joined(name: str) -> list[Any]:
        return list(itertools.chain.from_iterable(row[name] for row in rows))

    return Pages(
        seekers=np.array([row["seeker"] for row in rows], np.int32),
        times=np.array([row["match_micros"] for row in rows], np.int64),
        explored=np.array([row["explored"] for row in rows], np.bool_),
        slot_pages=np.repeat(np.arange(len(rows), dtype=np.int32), sizes),
        candidates=np.array(joined("candidates"), np.int32),
        ranks=np.array([rank for size in sizes for rank in range(1, size + 1)], np.int32),
        propensities=np.array(joined("propensities"), np.float64),
        levels=np.array(joined("levels"), np.int8),
    )


def shared_part(row: asyncpg.Record) -> SharedPart:
    """A domain that is shared."""
    counts = dict(row)
    space = {name: counts.pop(name) for name in ("encoder", "dim")}
    return SharedPart(counts=DomainCounts(**counts), **space)


def read_stored(row: asyncpg.Record) -> StoredProfile:
    """A person as the store knows them."""
    vector = row["vector"]
    given = json.loads(row["provenance"])
    profile = Profile(
        user_id=row["user_id"],
        context=row["context"],
        values=json.loads(row["fields"], parse_int=float),  # jsonb forgets which they were
        vector=None if vector is None else np.frombuffer(vector, "<f2"),
        encoder=row["encoder"],
        provenance={
            name: Provenance(source, datetime.datetime.fromisoformat(at), *read)
            for name, (source, at, *read) in given.items()
        },
    )
    return StoredProfile(
        profile=profile,
        schema=read_schema(row["domain"], row["schema"]),
        update_time=row["update_time"],
        revision=row["revision"],
    )


def user_row(profile: Profile, columns: Sequence[float]) -> tuple[object, ...]:
    """A person as they are kept, behind their number; see save_users."""
    given = {
        name: [p.source, p.at.isoformat(), *([p.confidence, p.evidence] if p.evidence else [])]
        for name, p in profile.provenance.items()
    }
    return (
        profile.user_id,
        profile.context,
        json.dumps(profile.values),
        json.dumps(given),
        np.asarray(columns, "<f8").tobytes(),
        None if profile.vector is None else profile.vector.astype("<f2").tobytes(),
        profile.encoder,
    )


def spread(
    values: npt.NDArray[Number], numbers: Sequence[int], size: int, blank: float
) -> npt.NDArray[Number]:
    """Rows at the place of their numbers; blank ones for numbers whose people were erased."""
    if len(numbers) == size:
        return values
    spread = np.full((size, values.shape[1]), blank, values.dtype)
    spread[numbers] = values
    return spread


def profile_batch(schema: Schema, rows: list[asyncpg.Record]) -> ProfileBatch:
    """People to be sent."""
    needed = any(f.kind == "hard" and not f.is_column for f in schema.fields)
    values = [json.loads(row["fields"]) if needed else {} for row in rows]
    return ProfileBatch(
        user_ids=[row["user_id"] for row in rows],
        numbers=np.array([row["number"] for row in rows], np.int32),
        vectors=read_vectors(schema, rows),
        columns=read_columns(schema, rows),
        strings=string_columns(schema, values),
        lists=list_columns(schema, values),
        points=point_columns(schema, values),
    )


def tally_batch(rows: list[asyncpg.Record]) -> TallyBatch:
    """Tallies to be sent."""
    effects = [Tally(tuple(row["given"]), tuple(row["received"])).effects for row in rows]
    numbers = np.array([row["number"] for row in rows], np.int32)
    return TallyBatch(numbers=numbers, counts=np.array(effects, np.int32))


def pair_batch(rows: list[asyncpg.Record]) -> PairBatch:
    """Pairs to be sent."""
    return PairBatch(
        numbers=np.array([(row["seeker"], row["candidate"]) for row in rows], np.int32),
        standing=np.array([standing_of(row["level"]) for row in rows], np.uint8),
        times=np.array([micros(row["occurred_at"]) for row in rows], np.int64),
    )


def read_vectors(schema: Schema, rows: list[asyncpg.Record]) -> npt.NDArray[np.float16]:
    """Vectors, float16 [rows, dim]; zeros for a person without one."""
    zeros = bytes(2 * schema.dim)
    content = b"".join(zeros if row["vector"] is None else row["vector"] for row in rows)
    return np.frombuffer(content, "<f2").reshape(len(rows), schema.dim)


def read_columns(schema: Schema, rows: list[asyncpg.Record]) -> npt.NDArray[np.float64]:
    """Columns that were added to the schema after a row was written have no value there."""
    size = 8 * len(schema.columns)
    nan = np.array([np.nan], "<f8").tobytes()
    content = b"".join(row["columns"] + nan * ((size - len(row["columns"])) // 8) for row in rows)
    return np.frombuffer(content, "<f8").reshape(len(rows), len(schema.columns))


def read_labels(text: str) -> dict[str, Label]:
    """A tenant's own labels by name."""
    return {content["name"]: Label(**content) for content in json.loads(text)}


def labels_json(labels: Mapping[str, Label]) -> str:
    """A tenant's own labels as they are kept."""
    return json.dumps([dataclasses.asdict(label) for label in labels.values()])


def schema_json(schema: Schema) -> str:
    """A schema as it is kept."""
    return json.dumps(dataclasses.asdict(schema))


def read_schema(domain: str, text: str) -> Schema:
    """A domain's schema."""
    content = json.loads(text)
    fields = tuple(
        Field(
            **{
                **field,
                "members": tuple(field["members"]),
                "member_descriptions": tuple(map(tuple, field.get("member_descriptions", ()))),
            }
        )
        for field in content["fields"]
    )
    return Schema(**{**content, "domain": domain, "fields": fields})
