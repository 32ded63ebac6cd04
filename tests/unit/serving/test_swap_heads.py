"""Heads follow the scheduler's word; whatever goes wrong leaves the head in use where it is."""

import asyncio
import dataclasses
from typing import Any

import numpy as np
import pytest

from services.serving.core import swap_heads
from services.serving.core.candidates import FieldSpec, Layout, Partition
from services.serving.core.ports import DesiredHead, HeadBundle
from services.serving.core.swap_heads import RETRY_SECONDS, HeadSwapper
from tests.support.candidates import LAYOUT, rows
from tests.support.swaps import AGE, DOMAIN_1, DOMAIN_2, HEAD_1, HEAD_2, KEY, World


async def test_a_domain_without_a_head_is_served_by_the_encoder() -> None:
    world = World()
    await world.swapper.sync()
    assert world.in_use == "test"
    assert world.registry.domains[KEY].head.tier == "general"


async def test_a_promoted_head_is_put_in_use() -> None:
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    assert world.in_use == HEAD_1.head
    assert world.results == ["loaded"]


async def test_a_head_in_use_is_not_loaded_again() -> None:
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    await world.swapper.sync()
    assert world.loads == [HEAD_1.head]


async def test_the_next_head_takes_its_place() -> None:
    world = World()
    for head in (HEAD_1, HEAD_2, HEAD_1):
        world.desired = [head]
        await world.swapper.sync()
        assert world.in_use == head.head


async def test_without_a_wanted_head_the_encoder_is_back() -> None:
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    world.desired = []
    await world.swapper.sync()
    assert world.in_use == "test"
    assert world.results == ["loaded", "removed"]


async def test_explorations_are_as_wanted_with_a_head_and_without_one() -> None:
    world = World()
    world.desired = [DesiredHead(*KEY, "", "", "", 0.25), DesiredHead("x", "y", "", "", "", 0.5)]
    await world.swapper.sync()
    assert world.registry.explorations == {KEY: 0.25, ("x", "y"): 0.5}
    assert (world.in_use, world.loads) == ("test", [])
    world.desired = [dataclasses.replace(HEAD_1, exploration=0.125)]
    await world.swapper.sync()
    assert world.registry.explorations == {KEY: 0.125}
    assert world.in_use == HEAD_1.head
    world.desired = [HEAD_1]
    await world.swapper.sync()
    assert world.registry.explorations == {}
    world.desired = [DesiredHead(*KEY, "", "", "", 0.25)]
    await world.swapper.sync()
    assert world.in_use == "test"


async def test_a_refused_head_leaves_the_one_in_use() -> None:
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    world.broken, world.desired = {HEAD_2.head}, [HEAD_2]
    await world.swapper.sync()
    assert world.in_use == HEAD_1.head
    assert world.results == ["loaded", "refused"]
    assert "golden" in world.registry.failed[*KEY, "tenant"].message


async def test_a_refused_head_is_tried_again_but_not_at_once() -> None:
    world = World()
    world.broken, world.desired = {HEAD_1.head}, [HEAD_1]
    await world.swapper.sync()
    await world.swapper.sync()
    assert world.loads == [HEAD_1.head]
    world.clock.seconds += RETRY_SECONDS
    world.broken = set()
    await world.swapper.sync()
    assert world.in_use == HEAD_1.head
    assert world.registry.failed == {}


@pytest.mark.parametrize(
    "column",
    [("height", "number", ()), ("age", "number", ()), ("goal", "enum", ("love", "fun"))],
)
async def test_a_head_that_does_not_fit_the_domain_is_refused(
    column: tuple[str, str, tuple[str, ...]],
) -> None:
    world = World()
    world.columns[HEAD_1.head] = (column,)
    world.desired = [HEAD_1]
    await world.swapper.sync()
    assert world.in_use == "test"
    assert world.results == ["refused"]


async def test_a_head_of_before_members_were_added_still_fits() -> None:
    world = World()
    world.columns[HEAD_1.head] = (("goal", "enum", ("fun",)), AGE)
    world.desired = [HEAD_1]
    await world.swapper.sync()
    assert world.in_use == HEAD_1.head
    assert world.registry.domains[KEY].head.columns.tolist() == [1, 0]


async def test_the_head_stays_in_use_when_the_schema_grows() -> None:
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    grown = Layout(
        version="dating.v2",
        fields=(*LAYOUT.fields, FieldSpec("pets", "hard", "boolean", ())),
        encoder="test",
        dim=8,
    )
    batch = rows([0, 1])
    wider = np.hstack([batch.columns, [[1.0], [0.0]]])
    world.follower.apply(
        KEY,
        grown,
        profiles=type(batch)(
            user_ids=batch.user_ids,
            numbers=batch.numbers,
            vectors=batch.vectors,
            columns=wider,
            strings=batch.strings,
        ),
        tallies=None,
        revision=1,
    )
    assert world.registry.domains[KEY].partition.layout == LAYOUT  # half filled is not served
    world.follower.apply(KEY, grown, profiles=None, tallies=None, revision=2)
    assert world.registry.domains[KEY].partition.layout == grown
    assert world.in_use == HEAD_1.head


async def test_a_large_domain_gets_an_index_and_its_head_is_calibrated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swap_heads, "INDEX_ROWS_MIN", 5)
    world = World()
    await world.swapper.refresh_indexes()
    served = world.registry.domains[KEY]
    assert served.index is not None
    assert (served.probes_count, served.recall) == (12, 0.993)
    world.desired = [HEAD_1]
    await world.swapper.sync()
    assert world.registry.domains[KEY].index is served.index
    assert world.registry.domains[KEY].probes_count == 12


async def test_an_index_is_built_anew_when_too_many_are_newer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swap_heads, "INDEX_ROWS_MIN", 5)
    world = World()
    await world.swapper.refresh_indexes()
    first = world.registry.domains[KEY].index
    world.fill(LAYOUT, [10], revision=2)
    await world.swapper.refresh_indexes()
    assert world.registry.domains[KEY].index is first
    world.fill(LAYOUT, [11], revision=3)
    await world.swapper.refresh_indexes()
    newer = world.registry.domains[KEY].index
    assert newer is not None
    assert newer.rows == 12


async def test_an_index_brings_no_head_back_that_went_out_of_use_while_it_was_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swap_heads, "INDEX_ROWS_MIN", 5)
    world = World()
    world.desired = [HEAD_1]
    await world.swapper.sync()
    world.desired = []
    build = asyncio.to_thread

    async def slowly(call: Any, *arguments: Any) -> Any:
        built = await build(call, *arguments)
        if world.in_use == HEAD_1.head:
            monkeypatch.setattr(asyncio, "to_thread", build)
            await world.swapper.sync()
        return built

    monkeypatch.setattr(asyncio, "to_thread", slowly)
    await world.swapper.refresh_indexes()
    assert world.in_use == "test"
    await world.swapper.refresh_indexes()
    assert world.registry.domains[KEY].index is not None
    assert world.in_use == "test"


async def test_candidates_replaced_during_a_load_are_not_overwritten() -> None:
    world = World()
    world.desired = [HEAD_1]
    replacement = Partition(LAYOUT)

    class SlowSource:
        async def load(self, desired: DesiredHead) -> HeadBundle:
            world.registry.install(KEY, replacement)
            return await world.load(desired)

    swapper = HeadSwapper(
        world.registry,
        world,
        SlowSource(),
        world,
        world.clock,
        observe=lambda *_: None,
        journal=world.journal,
    )
    await swapper.sync()
    assert world.registry.domains[KEY].partition is replacement
    await world.swapper.sync()
    assert world.in_use == HEAD_1.head


def test_cursors_name_what_is_complete() -> None:
    world = World()
    assert world.follower.cursors() == {KEY: 1}
    world.follower.apply(("acme", "hiring"), LAYOUT, profiles=rows([0]), tallies=None, revision=-1)
    assert world.follower.cursors() == {KEY: 1}


async def test_without_a_head_of_its_own_a_tenant_is_served_by_the_domains() -> None:
    world = World()
    for desired, used in (
        ([DOMAIN_1], DOMAIN_1.head),
        ([HEAD_1, DOMAIN_1], HEAD_1.head),
        ([HEAD_1, DOMAIN_2], HEAD_1.head),
        ([DOMAIN_2], DOMAIN_2.head),
        ([], "test"),
    ):
        world.desired = desired
        await world.swapper.sync()
        assert world.in_use == used
    assert world.results == ["loaded", "loaded", "loaded", "removed"]
    assert world.registry.failed == {}


async def test_a_domain_head_is_held_once_and_serves_whoever_comes_at_once() -> None:
    world = World()
    world.desired = [DOMAIN_1]
    await world.swapper.sync()
    newcomer = ("globex", "dating")
    world.follower.apply(newcomer, LAYOUT, profiles=rows([0]), tallies=None, revision=0)
    world.follower.apply(newcomer, LAYOUT, profiles=None, tallies=None, revision=1)
    head = world.registry.domains[newcomer].head
    assert (head.head, head.tier, head.run_id) == (DOMAIN_1.head, "domain", "")
    await world.swapper.sync()
    assert world.loads == [DOMAIN_1.head]
    assert head.bundle is world.registry.domains[KEY].head.bundle


async def test_a_domain_head_that_does_not_fit_leaves_the_encoder_and_says_why() -> None:
    world = World()
    world.columns[DOMAIN_1.head] = (("height", "number", ()),)
    world.desired = [DOMAIN_1]
    await world.swapper.sync()
    await world.swapper.sync()
    assert (world.in_use, world.results) == ("test", ["refused"])
    failed = world.registry.failed[*KEY, "domain"]
    assert (failed.desired.tenant, failed.desired.head) == ("acme", DOMAIN_1.head)
    assert "height" in failed.message
    world.desired = [HEAD_1, DOMAIN_1]
    await world.swapper.sync()
    assert (world.in_use, world.registry.failed) == (HEAD_1.head, {})


async def test_a_domain_head_that_knows_people_is_not_used() -> None:
    world = World()
    world.known = {"domain": 1}
    world.desired = [DOMAIN_1]
    await world.swapper.sync()
    assert world.in_use == "test"
    assert "single people" in world.registry.failed[*KEY, "domain"].message


async def test_a_broken_head_of_its_own_leaves_a_tenant_where_it_was() -> None:
    world = World()
    world.broken, world.desired = {HEAD_1.head}, [HEAD_1, DOMAIN_1]
    await world.swapper.sync()
    assert world.in_use == DOMAIN_1.head
    world.broken, world.desired = set(), [HEAD_2, DOMAIN_1]
    await world.swapper.sync()
    world.broken, world.desired = {HEAD_1.head}, [HEAD_1, DOMAIN_1]
    await world.swapper.sync()
    assert world.in_use == HEAD_2.head


async def test_a_broken_domain_head_leaves_the_one_before() -> None:
    world = World()
    world.desired = [DOMAIN_1]
    await world.swapper.sync()
    world.broken, world.desired = {DOMAIN_2.head}, [DOMAIN_2]
    await world.swapper.sync()
    assert world.in_use == DOMAIN_1.head
    assert "golden" in world.registry.failed["_shared", "dating", "domain"].message
    world.desired = []
    await world.swapper.sync()
    assert (world.in_use, world.registry.failed) == ("test", {})


@pytest.mark.parametrize("shared", [False, True])
async def test_a_store_that_fails_for_one_head_keeps_no_other_from_its_own(shared: bool) -> None:
    world = World()
    other = ("globex", "hiring")
    world.follower.apply(other, LAYOUT, profiles=rows([0]), tallies=None, revision=0)
    world.follower.apply(other, LAYOUT, profiles=None, tallies=None, revision=1)
    wanted = DesiredHead(*other, "u_globex.hiring.2026-05-17.001", "tenant", "3" * 64)
    missing = DOMAIN_1 if shared else HEAD_1
    world.desired, world.unreachable = [missing, wanted], {missing.head}
    with pytest.raises(ExceptionGroup) as failed:
        await world.swapper.sync()
    assert [type(error) for error in failed.value.exceptions] == [ConnectionError]
    assert world.registry.domains[other].head.head == wanted.head
    assert world.in_use == "test"
    world.unreachable = set()
    await world.swapper.sync()
    assert world.in_use == missing.head


async def test_a_domain_whose_people_have_all_gone_gets_its_next_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swap_heads, "INDEX_ROWS_MIN", 5)
    world = World()
    await world.swapper.refresh_indexes()
    numbers = np.arange(10, dtype=np.int32)
    gone = {"profiles": None, "tallies": None, "removals": numbers, "revision": 2}
    world.follower.apply(KEY, LAYOUT, **gone)  # type: ignore[arg-type]
    world.desired = [HEAD_1]
    await world.swapper.sync()
    assert world.in_use == HEAD_1.head
