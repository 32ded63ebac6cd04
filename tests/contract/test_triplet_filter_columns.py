"""Lists and places in every triplet store: read as they were saved, streamed for filters."""

import math

import numpy as np

from services.triplets.core.ports import TripletStore
from services.triplets.core.profile import Value
from services.triplets.core.schema import CALLER, Field, Schema
from tests.support.domains import DOMAIN, TENANT, changes_since, profile_of

GOAL = Field(
    name="goal",
    kind="hard",
    type="enum",
    members=("fun", "love"),
    member_descriptions=(("fun", "Wants to laugh."), ("love", "Wants to stay.")),
)
SCHEMA = Schema(
    domain=DOMAIN,
    number=1,
    encoder=CALLER,
    dim=4,
    fields=(
        Field(name="tags", kind="hard", type="list"),
        Field(name="age", kind="hard", type="integer"),
        Field(name="place", kind="hard", type="geo"),
        Field(name="city", kind="hard", type="string"),
        GOAL,
    ),
)
PEOPLE: dict[str, dict[str, Value]] = {
    "ada": {"tags": ["naïve", "tall"], "place": {"lat": 47.0, "lon": -7.59}, "age": 3.0},
    "bob": {"tags": [], "city": "Basel"},
    "cleo": {"tags": ["tall"], "place": {"lat": 0.0, "lon": 180.0}},
}


async def test_lists_and_places_are_read_as_they_were_saved_and_streamed(
    triplet_store: TripletStore,
) -> None:
    store = triplet_store
    await store.create_domain(TENANT, SCHEMA)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        assert unit.schema == SCHEMA
        for user_id, values in PEOPLE.items():
            await unit.save_profile(profile_of(user_id, values), [values.get("age", math.nan), 0])  # type: ignore[list-item]  # an age is a number
    for user_id, values in PEOPLE.items():
        stored = await store.read_profile(TENANT, DOMAIN, user_id)
        assert stored is not None
        assert stored.profile.values == values
    batch = (await changes_since(store, -1))[0].profiles
    assert batch is not None
    assert batch.columns.shape == (3, 2)
    assert batch.strings == {"city": ["", "Basel", ""]}
    assert batch.lists == {"tags": [["naïve", "tall"], [], ["tall"]]}
    assert batch.points.keys() == {"place"}
    expected = [[47.0, -7.59], [np.nan, np.nan], [0.0, 180.0]]
    np.testing.assert_array_equal(batch.points["place"], expected)
    arrays = await store.read_arrays(TENANT, DOMAIN, 1)
    assert arrays.columns.shape == (3, 2)
