"""Values that were read out of a text, in every triplet store: kept with what they rest on."""

import dataclasses
import datetime

import pytest

from services.triplets.core.ports import TripletStore
from services.triplets.core.profile import Provenance, column_values
from tests.support.domains import (
    DOMAIN,
    MOMENT,
    SCHEMA,
    TENANT,
    add_users,
    changes_since,
    users_in,
)

READ = Provenance("extraction", MOMENT, 0.8, "I'm naïve")


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store with one domain and two people."""
    await triplet_store.create_domain(TENANT, SCHEMA)
    await add_users(triplet_store, ["ada", "bob"])
    return triplet_store


async def test_values_are_replaced_with_their_origin_and_nothing_else(store: TripletStore) -> None:
    before = await store.read_profile(TENANT, DOMAIN, "ada")
    assert before is not None
    name = next(field.name for field in SCHEMA.fields if field.type in {"integer", "number"})
    given = Provenance("fields", MOMENT - datetime.timedelta(days=1))
    changed = dataclasses.replace(
        before.profile,
        context="not stored",
        values={**before.profile.values, name: 41.0},
        provenance={name: READ, "other": given},
    )
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_values(changed, column_values(SCHEMA, changed.values))
    after = await store.read_profile(TENANT, DOMAIN, "ada")
    assert after is not None
    assert after.profile.values == changed.values
    assert after.profile.provenance == {name: READ, "other": given}
    assert after.profile.context == before.profile.context
    assert after.update_time > before.update_time
    assert after.revision == before.revision + 1
    changes = await changes_since(store, before.revision)
    assert users_in(changes) == ["ada"]
    (batch,) = [change.profiles for change in changes if change.profiles is not None]
    assert 41.0 in batch.columns[0].tolist()
