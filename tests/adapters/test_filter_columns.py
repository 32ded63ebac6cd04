"""Lists and places over the wire: what the triplet store keeps is what serving filters."""

import math

import numpy as np

from services.chassis.clock import SystemClock
from services.serving import clients
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.swap_heads import Registry
from services.triplets.core.profile import Value
from services.triplets.core.schema import CALLER, Field, Schema
from services.triplets.memory import MemoryTripletStore
from services.triplets.rpc import profiles
from tests.support.domains import DOMAIN, TENANT, changes_since, profile_of

SCHEMA = Schema(
    domain=DOMAIN,
    number=1,
    encoder=CALLER,
    dim=4,
    fields=(
        Field(name="tags", kind="hard", type="list"),
        Field(name="age", kind="hard", type="integer"),
        Field(name="place", kind="hard", type="geo"),
    ),
)


async def test_lists_and_places_arrive_with_their_people() -> None:
    store, registry = MemoryTripletStore(), Registry(SystemClock())
    await store.create_domain(TENANT, SCHEMA)
    people: dict[str, dict[str, Value]] = {
        "ada": {"tags": ["calm", "tall"], "place": {"lat": 47.56, "lon": 7.59}},
        "bob": {},
        "cleo": {"tags": ["tall"]},
    }
    async with store.open_domain(TENANT, DOMAIN) as unit:
        for user_id, values in people.items():
            await unit.save_profile(profile_of(user_id, values), [math.nan])
    follower = ProfileFollower(registry)
    for change in await changes_since(store, -1):
        clients._apply(follower, profiles._to_proto(TENANT, DOMAIN, change))
    partition = registry.domains[TENANT, DOMAIN].partition
    view = partition.view
    assert partition.list_codes == [{"calm": 0, "tall": 1}]
    assert view.lists[0].owners.tolist() == [0, 0, 2]
    assert view.lists[0].codes.tolist() == [0, 1, 1]
    expected = [[47.56, 7.59], [np.nan] * 2, [np.nan] * 2]
    np.testing.assert_array_equal(view.points[0][:3], expected)
    assert view.features.shape[1] == 1
