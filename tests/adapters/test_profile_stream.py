"""Candidates over the wire: serving follows the triplet store, through breaks and anew."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from trine.triplets.v1 import profile_service_pb2_grpc

from services.chassis import server
from services.chassis.channel import open_channel
from services.chassis.clock import SystemClock
from services.chassis.tasks import background
from services.serving import clients
from services.serving.clients import follow_profiles
from services.serving.core.candidates import Partition
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.swap_heads import Registry
from services.triplets.core.profile import Value, column_values
from services.triplets.core.tally import Tally
from services.triplets.memory import MemoryTripletStore
from services.triplets.rpc import profiles as streaming
from services.triplets.rpc.errors import ERRORS
from services.triplets.rpc.profiles import ProfileServicer
from tests.support.domains import (
    DOMAIN,
    GROWN_SCHEMA,
    SCHEMA,
    TENANT,
    add_users,
    profile_of,
    schema_of,
)
from tests.support.server import MESH_TOKEN, free_address, running

NAMES = ["trine.triplets.v1.ProfileService"]
SECONDS_MAX = 10.0


class TellingFollower(ProfileFollower):
    """A follower that can be waited for."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self.batches_count = 0
        self._applied = asyncio.Event()

    def apply(self, *arguments: object, **content: object) -> None:
        super().apply(*arguments, **content)  # type: ignore[arg-type]  # handed on as it came
        self.batches_count += 1
        self._applied.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something holds after a batch."""
        while not holds():
            self._applied.clear()
            await asyncio.wait_for(self._applied.wait(), SECONDS_MAX)


class Following:
    """A triplet store, serving that follows it, and the wire between them."""

    def __init__(self) -> None:
        self.store = MemoryTripletStore()
        self.registry = Registry(SystemClock())
        self.follower = TellingFollower(self.registry)
        self.caught_up = asyncio.Event()
        self.address = free_address()

    @asynccontextmanager
    async def serving_profiles(self) -> AsyncIterator[None]:
        """The triplet store answers until the block ends."""

        def add(server: grpc.aio.Server) -> None:
            servicer = ProfileServicer(self.store)
            profile_service_pb2_grpc.add_ProfileServiceServicer_to_server(servicer, server)

        async with running(ERRORS, add, NAMES, self.address):
            yield

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Serving follows until the block ends."""
        async with (
            open_channel(self.address, MESH_TOKEN) as channel,
            background(follow_profiles(channel, self.follower, self.caught_up.set)),
        ):
            yield

    async def until_caught_up(self) -> None:
        """Waits for the first full pass."""
        await asyncio.wait_for(self.caught_up.wait(), SECONDS_MAX)

    async def until_known(self, *user_ids: str, domain: str = DOMAIN) -> None:
        """Waits until people may be matched."""
        await self.follower.until(
            lambda: set(user_ids) <= set(self.registry.domains[TENANT, domain].partition.number_of)
        )

    def partition(self, domain: str = DOMAIN) -> Partition:
        """What is served of a domain."""
        return self.registry.domains[TENANT, domain].partition


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> Following:
    """A store with a domain of two people."""
    monkeypatch.setattr(clients, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.0)
    monkeypatch.setattr(streaming, "GATHER_SECONDS", 0.0)
    made = Following()
    await made.store.create_domain(TENANT, SCHEMA)
    await add_users(made.store, ["ada", "bob"])
    return made


async def save(world: Following, user_id: str, values: Mapping[str, Value], *vector: float) -> None:
    """Brings a person in, without a vector if none is given."""
    async with world.store.open_domain(TENANT, DOMAIN) as unit:
        profile = profile_of(user_id, values, vector or None)
        await unit.save_profile(profile, column_values(unit.schema, profile.values))


async def test_people_arrive_as_the_triplet_store_knows_them(world: Following) -> None:
    await save(world, "cyd", {"city": "Zürich"}, 0.0, 0.6, 0.8, 0.0)
    await save(world, "dot", {"age": 2.0**53})
    async with world.store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_tallies({1: Tally((1, 2, 3, 4), (0, 5, 0, 6))}, 0, 0)
    async with world.serving_profiles(), world.following():
        await world.until_caught_up()
    partition, view = world.partition(), world.partition().view
    assert partition.user_ids == ["ada", "bob", "cyd", "dot"]
    assert [(f.name, f.kind, f.type) for f in partition.layout.fields] == [
        ("age", "hard", "integer"),
        ("city", "hard", "string"),
        ("about", "soft", "string"),
    ]
    assert (partition.layout.encoder, partition.layout.dim) == ("caller", 4)
    ages = np.array([30, 30, np.nan, 2.0**53])
    assert np.array_equal(view.columns[0][:4], ages, equal_nan=True)
    cities = {code: city for city, code in partition.string_codes[0].items()}
    found = [cities.get(int(code)) for code in view.codes[0][:4]]
    assert found == ["Basel", "Basel", "Zürich", None]
    assert view.vectors[2] == pytest.approx([0, 0.6, 0.8, 0], abs=1e-3)
    assert view.vectors[3].tolist() == [0, 0, 0, 0]
    assert partition.counts[:2].tolist() == [[0, 0, 0, 0], [10, 7, 11, 6]]


async def test_a_change_is_seen_while_it_is_followed(world: Following) -> None:
    async with world.serving_profiles(), world.following():
        await world.until_caught_up()
        await save(world, "ada", {"age": 31.0}, 1.0, 0.0, 0.0, 0.0)
        await save(world, "cyd", {"age": 40.0}, 1.0, 0.0, 0.0, 0.0)
        await world.until_known("cyd")
        view = world.partition().view
        assert view.alive_count == 3
        assert view.columns[0][view.row_of[0]] == 31


async def test_what_changed_while_the_triplet_store_was_away_is_caught_up_with(
    world: Following,
) -> None:
    async with world.following():
        async with world.serving_profiles():
            await world.until_caught_up()
        told_count = world.follower.batches_count
        await add_users(world.store, ["cyd", "dot"])
        async with world.serving_profiles():
            await world.until_known("cyd", "dot")
            await world.follower.until(lambda: world.follower.batches_count > told_count + 1)
    assert world.partition().view.alive_count == 4
    assert world.partition().view.size == 4  # nobody who was known was told again


async def test_serving_that_starts_again_is_told_everything(world: Following) -> None:
    async with world.serving_profiles():
        async with world.following():
            await world.until_caught_up()
        world.registry.domains.clear()
        world.caught_up.clear()
        async with world.following():
            await world.until_caught_up()
    assert list(world.partition().number_of) == ["ada", "bob"]


async def test_a_domain_that_is_new_is_told_too(world: Following) -> None:
    async with world.serving_profiles(), world.following():
        await world.until_caught_up()
        await world.store.create_domain(TENANT, schema_of("hiring"))
        await world.follower.until(lambda: (TENANT, "hiring") in world.registry.domains)
        await add_users(world.store, ["eve"], "hiring")
        await world.until_known("eve", domain="hiring")
    assert list(world.partition("hiring").number_of) == ["eve"]
    assert list(world.partition().number_of) == ["ada", "bob"]


async def test_a_schema_that_grows_brings_everyone_anew(world: Following) -> None:
    async with world.serving_profiles(), world.following():
        await world.until_caught_up()
        before = world.partition()
        async with world.store.open_domain(TENANT, DOMAIN) as unit:
            await unit.save_schema(GROWN_SCHEMA)
        await world.follower.until(lambda: world.partition() is not before)
    assert world.partition().layout.version == GROWN_SCHEMA.version
    assert list(world.partition().number_of) == ["ada", "bob"]
    assert [field.name for field in world.partition().layout.columns] == ["age", "smokes"]
