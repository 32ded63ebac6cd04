"""Models on the shelf: whom is asked when, what is kept, and what happens when somebody is away."""

import asyncio

import numpy as np
import pytest

from services.chassis.clock import ManualClock
from services.serving.core import models
from services.serving.core.errors import (
    FieldInvalidError,
    ModelNotFoundError,
    ModelUnavailableError,
)
from services.serving.core.models import ModelShelf, embed, rerank
from services.serving.core.ports import DesiredModel
from tests.support.candidates import NOW
from tests.support.serving import Catalog, Encoder, Maps

NAME = "ft:trine-general:acme::one"


class World:
    """A shelf and what is around it."""

    def __init__(self) -> None:
        self.catalog, self.maps, self.clock = Catalog(), Maps(), ManualClock(NOW)
        self.put(NAME, "1")
        self.shelf = ModelShelf(self.catalog, self.maps, Encoder(), self.clock)

    def put(self, name: str, digest: str) -> None:
        """Gives acme a model."""
        self.catalog.models["acme", name] = DesiredModel("acme", name, digest)


@pytest.fixture
def world() -> World:
    return World()


async def test_the_encoder_alone_needs_no_loading(world: World) -> None:
    model = await world.shelf.get("acme", "trine-general")
    assert (model.head, model.map, world.maps.loaded) == ("general", None, [])


async def test_a_map_is_loaded_once_and_names_are_asked_again_after_two_seconds(
    world: World,
) -> None:
    for _ in range(3):
        await world.shelf.get("acme", NAME)
    assert (world.catalog.asked, world.maps.loaded) == (1, ["1"])
    world.clock.advance(models.FRESH_SECONDS + 0.1)
    world.put(NAME, "2")
    await world.shelf.get("acme", NAME)
    assert (world.catalog.asked, world.maps.loaded) == (2, ["1", "2"])


async def test_callers_who_wait_for_one_map_share_its_loading(world: World) -> None:
    world.maps.go_on.clear()
    waiting = [asyncio.create_task(world.shelf.get("acme", NAME)) for _ in range(5)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()  # one who leaves takes nothing from the others
    world.maps.go_on.set()
    found = await asyncio.gather(*waiting[1:])
    assert len({id(model.map) for model in found}) == 1
    assert world.maps.loaded == ["1"]


async def test_the_map_that_nobody_asks_for_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "MAPS_MAX", 2)
    for number in (1, 2, 1, 3):
        world.put(f"ft:{number}", str(number))
        await world.shelf.get("acme", f"ft:{number}")
    world.maps.loaded.clear()
    for number in (1, 3, 2):
        await world.shelf.get("acme", f"ft:{number}")
    assert world.maps.loaded == ["2"]


async def test_another_tenants_model_is_none(world: World) -> None:
    with pytest.raises(ModelNotFoundError):
        await world.shelf.get("other", NAME)


async def test_a_deleted_model_is_gone_within_seconds(world: World) -> None:
    await world.shelf.get("acme", NAME)
    world.catalog.models.clear()
    world.clock.advance(models.FRESH_SECONDS + 0.1)
    with pytest.raises(ModelNotFoundError):
        await world.shelf.get("acme", NAME)
    world.catalog.away = True
    with pytest.raises(ModelUnavailableError):
        await world.shelf.get("acme", NAME)


async def test_while_the_scheduler_is_away_its_last_word_stands_for_a_while(world: World) -> None:
    await world.shelf.get("acme", NAME)
    world.catalog.away = True
    world.clock.advance(models.VALID_SECONDS - 1)
    assert (await world.shelf.get("acme", NAME)).head == NAME
    world.clock.advance(2)
    with pytest.raises(ModelUnavailableError):
        await world.shelf.get("acme", NAME)


async def test_a_map_that_cannot_be_loaded_is_tried_again_by_the_next(world: World) -> None:
    world.maps.broken = True
    with pytest.raises(ModelUnavailableError):
        await world.shelf.get("acme", NAME)
    world.maps.broken = False
    assert (await world.shelf.get("acme", NAME)).map is not None


async def test_queries_are_mapped_and_documents_are_not(world: World) -> None:
    texts = ["a", "bb bb"]
    query = await embed(world.shelf, "acme", NAME, texts, query=True)
    document = await embed(world.shelf, "acme", NAME, texts, query=False)
    general = await embed(world.shelf, "acme", "trine-general", texts, query=True)
    assert np.array_equal(query.vectors, document.vectors[:, ::-1])
    assert np.array_equal(general.vectors, document.vectors)
    assert np.linalg.norm(query.vectors, axis=1) == pytest.approx([1, 1])
    assert (query.tokens_count, query.head, general.head) == (3, NAME, "general")


async def test_documents_are_ranked_by_the_mapped_query(world: World) -> None:
    documents = ["a", "b" * 40, "c"]
    general = await rerank(world.shelf, "acme", "trine-general", "q" * 40, documents)
    turned = await rerank(world.shelf, "acme", NAME, "q" * 40, documents)
    assert general.places == [1, 0, 2]
    assert turned.places == [0, 2, 1], "equal ones stand as they were given"
    assert list(turned.scores) == sorted(turned.scores, reverse=True)
    assert turned.tokens_count == 4


@pytest.mark.parametrize(
    ("texts", "rule"),
    [
        ([], "must be 1 to 2048 texts"),
        (["a"] * 2_049, "must be 1 to 2048 texts"),
        (["a", " "], "must not be empty"),
        (["a" * 100_001], "at most 100000 characters"),
    ],
)
async def test_texts_within_limits_alone(world: World, texts: list[str], rule: str) -> None:
    with pytest.raises(FieldInvalidError, match=rule):
        await embed(world.shelf, "acme", NAME, texts, query=True)
