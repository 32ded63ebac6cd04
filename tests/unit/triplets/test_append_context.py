"""A context fills what the caller left open, and touches nothing that they gave."""

import dataclasses
import datetime

from services.triplets.core.append_context import append_context, prepare_context
from services.triplets.core.context import Context
from services.triplets.core.extraction.extract import Extractor
from services.triplets.core.profile import Profile, column_values
from services.triplets.core.schema import Field
from services.triplets.memory import MemoryTripletStore
from tests.support.domains import DOMAIN, MOMENT, SCHEMA, TENANT
from tests.support.places import MemoryGazetteer
from tests.support.triplets import Encoder

FIELDS = tuple(Field(name=name, kind="hard", type="integer") for name in ("age", "height_cm"))
SCHEMA_READ = dataclasses.replace(SCHEMA, fields=FIELDS, encoder="test", dim=2)


async def test_a_value_from_before_there_was_provenance_stays() -> None:
    store, encoder = MemoryTripletStore(), Encoder()
    await store.create_domain(TENANT, SCHEMA_READ)
    old = Profile(user_id="ada", context="", values={"age": 30.0}, vector=None, encoder="")
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profile(old, column_values(SCHEMA_READ, old.values))
    said = Context(
        context_id="ctx_1",
        content="I'm 34, 180 cm tall.",
        source="chat",
        occurred_at=MOMENT + datetime.timedelta(seconds=1),
    )
    prepared = await prepare_context(
        store,
        encoder,
        Extractor(encoder, MemoryGazetteer()),
        tenant=TENANT,
        domain=DOMAIN,
        user_id="ada",
        context=said,
    )
    async with store.open_domain(TENANT, DOMAIN) as unit:
        appended = await append_context(unit, prepared)
    assert list(appended.fields_updated) == ["height_cm"]
    stored = await store.read_profile(TENANT, DOMAIN, "ada")
    assert stored is not None
    assert stored.profile.values == {"age": 30.0, "height_cm": 180.0}
    assert set(stored.profile.provenance) == {"height_cm"}
