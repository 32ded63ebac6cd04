"""Bringing a person in: first what can fail or takes long, then one short transaction."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from services.triplets.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    MemoryResolverMissingError,
)
from services.triplets.core.extraction.extract import Extractor, added_values
from services.triplets.core.ports import DomainUnit, Encoder, TripletStore
from services.triplets.core.profile import (
    TEXT_CHARACTERS_MAX,
    Profile,
    Provenance,
    StoredProfile,
    check_required,
    check_text,
    check_types,
    check_user_id,
    check_vector,
    column_values,
    encoder_text,
)
from services.triplets.core.schema import CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDraft:
    """A person as a caller describes them."""

    user_id: str
    context: str
    values: Mapping[str, object]
    memory_ref: str
    vector: list[float]


async def prepare_profile(
    store: TripletStore,
    encoder: Encoder,
    extractor: Extractor,
    *,
    tenant: str,
    domain: str,
    draft: UserDraft,
    now: datetime.datetime,
) -> Profile:
    """Checks a draft against the domain's schema, and reads and encodes its text.

    Changes nothing.
    """
    check_user_id("user_id", draft.user_id)
    if draft.memory_ref:
        raise MemoryResolverMissingError
    schema = await store.read_schema(tenant, domain)
    if schema is None:
        raise DomainNotFoundError(domain)
    context = check_text("context", draft.context, TEXT_CHARACTERS_MAX)
    values = check_types(schema, extractor.resolve_places(schema, draft.values))
    if not (context or values or draft.vector):
        raise FieldInvalidError("context", "must be given unless fields or vector are")
    if draft.vector and schema.encoder != CALLER:
        raise FieldInvalidError(
            "vector", f"must be absent: vectors of this domain come from {schema.encoder}"
        )
    vector = check_vector(draft.vector, schema.dim) if draft.vector else None
    provenance = dict.fromkeys(values, Provenance("fields", now))
    found = await extractor.extract(schema, context, values)
    added = added_values(provenance, found, now)
    values |= added.values
    check_required(schema, values)
    if schema.encoder != CALLER and (text := encoder_text(schema, values, context)):
        vector = (await encoder.encode([text]))[0]
    return Profile(
        user_id=draft.user_id,
        context=context,
        values=values,
        vector=vector,
        encoder="" if vector is None else schema.encoder,
        provenance=provenance | added.provenance,
    )


async def save_profile(unit: DomainUnit, profile: Profile) -> StoredProfile:
    """Stores a prepared profile.

    The schema may have moved on since the profile was checked; successors keep checked values
    valid.
    """
    columns = column_values(unit.schema, profile.values)
    update_time = await unit.save_profile(profile, columns)
    return StoredProfile(
        profile=profile, schema=unit.schema, update_time=update_time, revision=unit.revision
    )
