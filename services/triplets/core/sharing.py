"""Domains that tenants share: who takes part in one, and what its columns are.

A shared domain is owned by nobody: it is the domains of one name, of tenants that have opted in,
taken together. Nothing but arrays of them meets, in a snapshot.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.triplets.core.errors import FieldInvalidError, TenantsTooFewError
from services.triplets.core.ports import DomainArrays, DomainCounts, DomainUnit, SharedPart
from services.triplets.core.schema import CALLER, Field, Schema

SHARED = "_shared"
"""Owner of shared domains: no tenant can have the name, for theirs begin with a letter."""

TENANTS_MIN = 2
"""A domain of fewer tenants is not learned from: what is learned would be one tenant's own."""
TENANTS_MAX = 1_000
"""Those with the most triplets take part."""


async def share_domain(unit: DomainUnit, *, enabled: bool) -> None:
    """Notes a tenant's consent, or that it is withdrawn.

    Raises:
        FieldInvalidError: the domain's vectors are of a space of its own.
    """
    if enabled and unit.schema.encoder == CALLER:
        rule = "must be false for a domain whose callers bring their own vectors"
        raise FieldInvalidError("sharing.enabled", rule)
    if enabled != unit.shared:
        await unit.save_shared(shared=enabled)


def participants(parts: Sequence[SharedPart]) -> list[SharedPart]:
    """Who takes part in each shared domain, by domain and tenant.

    Vectors of two encoders cannot be compared: of each domain the encoder that most tenants have
    takes part, of several the first by name.
    """
    found: list[SharedPart] = []
    for domain in sorted({part.counts.domain for part in parts}):
        here = [part for part in parts if part.counts.domain == domain]
        tenants = Counter((part.encoder, part.dim) for part in here)
        encoder = min(tenants, key=lambda key: (-tenants[key], key))
        same = [part for part in here if (part.encoder, part.dim) == encoder]
        same.sort(key=lambda part: (-part.counts.triplets_count, part.counts.tenant))
        if len(same) >= TENANTS_MIN:
            found += sorted(same[:TENANTS_MAX], key=lambda part: part.counts.tenant)
    return found


def check_participants(parts: Sequence[SharedPart], domain: str) -> list[SharedPart]:
    """Who takes part in a shared domain.

    Raises:
        TenantsTooFewError: not enough do.
    """
    found = participants(parts)
    if not found:
        raise TenantsTooFewError(domain, TENANTS_MIN)
    return found


def count_together(parts: Sequence[SharedPart], trained: int) -> DomainCounts:
    """The shared domain of some parts in numbers."""
    return DomainCounts(
        tenant=SHARED,
        domain=parts[0].counts.domain,
        revision=0,
        triplets_count=sum(part.counts.triplets_count for part in parts),
        positives_count=0,  # alone they teach about single candidates, who are one tenant's own
        trained_triplets_count=trained,
    )


def shared_columns(schemas: Sequence[Schema]) -> tuple[Field, ...]:
    """The columns that all schemas have, by name: a head that reads no others fits all of them.

    A column is the same if its name and type are; the members of an enum must begin alike, and it
    has as many as the shortest list. A value beyond them is one that no head has seen.
    """
    columns = [{field.name: field for field in schema.columns} for schema in schemas]
    shared: list[Field] = []
    for name in sorted(set(columns[0]).intersection(*columns[1:])):
        fields = [of_schema[name] for of_schema in columns]
        members = min((field.members for field in fields), key=len)
        if all(
            field.type == fields[0].type and field.members[: len(members)] == members
            for field in fields
        ):
            shared.append(Field(name=name, kind="hard", type=fields[0].type, members=members))
    return tuple(shared)


def join_domains(tenants: Sequence[str], parts: Sequence[DomainArrays]) -> DomainArrays:
    """Domains of several tenants as one: people one tenant after the other, outcomes as well.

    Ids get their tenant before them, so that those of two tenants differ and hash apart.
    """
    first = parts[0].schema
    columns = shared_columns([part.schema for part in parts])
    offsets = np.cumsum([0, *(len(part.user_ids) for part in parts)])[:-1].astype(np.int32)
    seekers = [part.seekers + start for part, start in zip(parts, offsets, strict=True)]
    candidates = [part.candidates + start for part, start in zip(parts, offsets, strict=True)]
    return DomainArrays(
        schema=dataclasses.replace(first, number=1, fields=columns, reciprocal=False),
        user_ids=[
            f"{tenant}/{user_id}" if user_id else ""
            for tenant, part in zip(tenants, parts, strict=True)
            for user_id in part.user_ids
        ],
        vectors=np.concatenate([part.vectors for part in parts]),
        columns=np.concatenate([_pick(part, columns) for part in parts]),
        seekers=np.concatenate(seekers),
        candidates=np.concatenate(candidates),
        levels=np.concatenate([part.levels for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        times=np.concatenate([part.times for part in parts]),
    )


def _pick(part: DomainArrays, columns: Sequence[Field]) -> npt.NDArray[np.float32]:
    places = {field.name: index for index, field in enumerate(part.schema.columns)}
    return part.columns[:, np.array([places[field.name] for field in columns], np.intp)]
