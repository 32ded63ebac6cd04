"""Adding to what is known of a person: read first, then stored if nothing came in between."""

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from services.triplets.core.context import SOURCE_CHARACTERS_MAX, Context, add_context
from services.triplets.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    UserChangedError,
    UserNotFoundError,
)
from services.triplets.core.extraction.extract import EXTRACTION, Extractor, added_values
from services.triplets.core.outcome import AHEAD_MAX, OCCURRED_AT_MIN
from services.triplets.core.ports import DomainUnit, Encoder, TripletStore
from services.triplets.core.profile import (
    TEXT_CHARACTERS_MAX,
    Profile,
    StoredProfile,
    Vector,
    check_text,
    column_values,
    encoder_text,
)
from services.triplets.core.schema import CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedContext:
    """A checked context and what it does to the person as they were when it was prepared."""

    user_id: str
    seen_revision: int
    added: Sequence[Context]
    dropped: Sequence[str]
    """Ids of contexts that make room."""
    vector: Vector | None
    """The person's new vector; None if it stays."""
    encoder: str
    profile: Profile | None
    """The person with the values that the context tells; None if it tells none."""
    fields_updated: Sequence[str]
    """Fields whose value is another with the context, sorted."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What a context has done."""

    fields_updated: Sequence[str]
    embeddings_refreshed: bool


async def prepare_context(
    store: TripletStore,
    encoder: Encoder,
    extractor: Extractor,
    *,
    tenant: str,
    domain: str,
    user_id: str,
    context: Context,
) -> PreparedContext:
    """Reads the context, and encodes the person anew with it. Changes nothing."""
    stored = await store.read_profile(tenant, domain, user_id)
    if stored is None:
        if await store.read_schema(tenant, domain) is None:
            raise DomainNotFoundError(domain)
        raise UserNotFoundError("user_id", user_id)
    # Read after the profile: whatever changes in between has moved the revision that is checked.
    known = await store.read_contexts(tenant, domain, user_id)
    kept = add_context(known, context)
    kept_ids = {one.context_id for one in kept}
    profile, updated = await _read_values(extractor, stored, context)
    return PreparedContext(
        user_id=user_id,
        seen_revision=stored.revision,
        added=[context] if context.context_id in kept_ids else [],
        dropped=[one.context_id for one in known if one.context_id not in kept_ids],
        vector=await _new_vector(encoder, stored, kept),
        encoder=stored.schema.encoder,
        fields_updated=updated,
        profile=profile,
    )


async def append_context(unit: DomainUnit, prepared: PreparedContext) -> Appended:
    """Stores a prepared context and what it tells.

    Raises:
        UserChangedError: the person is not as they were when it was prepared; prepare it anew.
        UserNotFoundError: the person has gone.
    """
    revision = await unit.read_revision(prepared.user_id)
    if revision is None:
        raise UserNotFoundError("user_id", prepared.user_id)
    if revision != prepared.seen_revision:
        raise UserChangedError(prepared.user_id)
    await unit.save_contexts(
        prepared.user_id,
        added=prepared.added,
        dropped=prepared.dropped,
        vector=prepared.vector,
        encoder=prepared.encoder,
    )
    if prepared.profile is not None:
        columns = column_values(unit.schema, prepared.profile.values)
        await unit.save_values(prepared.profile, columns)
    return Appended(prepared.fields_updated, prepared.vector is not None)


def check_context(context: Context, now: datetime.datetime) -> Context:
    """Returns the context if it is sound."""
    content = check_text("content", context.content, TEXT_CHARACTERS_MAX)
    if not content.strip():
        raise FieldInvalidError("content", "must be given")
    if len(context.source) > SOURCE_CHARACTERS_MAX or not context.source.isprintable():
        rule = f"must have at most {SOURCE_CHARACTERS_MAX} printable characters"
        raise FieldInvalidError("source", rule)
    if not OCCURRED_AT_MIN <= context.occurred_at <= now + AHEAD_MAX:
        raise FieldInvalidError("occurred_at", "must be between 1900 and a day from now")
    return dataclasses.replace(context, content=content)


async def _read_values(
    extractor: Extractor, stored: StoredProfile, context: Context
) -> tuple[Profile | None, list[str]]:
    """The person with what the context tells of fields that the caller did not give."""
    profile = stored.profile
    read = {name for name, origin in profile.provenance.items() if origin.source == EXTRACTION}
    # Values from before there was provenance are the caller's too.
    given = profile.values.keys() - read
    found = await extractor.extract(stored.schema, context.content, given)
    added = added_values(profile.provenance, found, context.occurred_at)
    if not added.values:
        return None, []
    updated = [name for name, value in added.values.items() if profile.values.get(name) != value]
    changed = dataclasses.replace(
        profile,
        values={**profile.values, **added.values},
        provenance={**profile.provenance, **added.provenance},
    )
    return changed, sorted(updated)


async def _new_vector(
    encoder: Encoder, stored: StoredProfile, kept: Sequence[Context]
) -> Vector | None:
    """The vector of the person with these contexts, if it is another than they have."""
    schema, profile = stored.schema, stored.profile
    if schema.encoder == CALLER:
        return None
    text = encoder_text(schema, profile.values, profile.context, [one.content for one in kept])
    if not text:
        return None
    (vector,) = await encoder.encode([text])
    same = profile.vector is not None and vector.tobytes() == profile.vector.tobytes()
    return None if same else vector
