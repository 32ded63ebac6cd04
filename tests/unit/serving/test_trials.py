"""A challenger beside the head in use: it comes, goes and takes over without touching a match."""

import dataclasses

import numpy as np
import pytest

from services.serving.core import swap_heads
from services.serving.core.candidates import FieldSpec, Layout
from services.serving.core.loaded_head import CHALLENGER, INCUMBENT, Arm
from services.serving.core.ports import CANARY, SHADOW, DesiredChallenger, DesiredHead
from tests.support.candidates import LAYOUT, rows
from tests.support.swaps import AGE, HEAD_1, HEAD_2, KEY, World

ROLLOUT = ("acme", "ro_2026_05_17_002")
PEOPLE = [f"u{number}" for number in range(4_000)]


def challenger(step: str = CANARY, share: float = 0.25, number: int = 2) -> DesiredChallenger:
    """The second head on trial."""
    rollout_id = f"ro_2026_05_17_{number:03d}"
    return DesiredChallenger(
        rollout_id, step, share, HEAD_2.head, HEAD_2.tier, HEAD_2.manifest_digest
    )


def challenged(
    step: str = CANARY, share: float = 0.25, head: DesiredHead = HEAD_1, number: int = 2
) -> DesiredHead:
    """A head in use that the second one challenges."""
    return dataclasses.replace(head, challenger=challenger(step, share, number))


async def sync(world: World, *desired: DesiredHead) -> None:
    """Serving hears what the scheduler wants."""
    world.desired = list(desired)
    await world.swapper.sync()


def drawn(world: World) -> list[str]:
    """Who of many people is answered by the challenger."""
    served = world.registry.domains[KEY]
    return [user_id for user_id in PEOPLE if served.for_seeker(user_id).arm.name == CHALLENGER]


async def test_a_share_of_the_seekers_is_answered_by_the_challenger_and_always_the_same() -> None:
    world, other = World(), World()
    for each in (world, other):
        await sync(each, challenged())
    assert world.in_use == HEAD_1.head
    first = drawn(world)
    assert len(first) / len(PEOPLE) == pytest.approx(0.25, abs=0.03)
    assert drawn(other) == first  # in another process too
    served = world.registry.domains[KEY].for_seeker(first[0])
    assert (served.head.head, served.arm) == (HEAD_2.head, Arm(ROLLOUT[1], CHALLENGER))
    rest = next(user_id for user_id in PEOPLE if user_id not in first)
    served = world.registry.domains[KEY].for_seeker(rest)
    assert (served.head.head, served.arm) == (HEAD_1.head, Arm(ROLLOUT[1], INCUMBENT))
    await sync(world, challenged(share=0.5))
    assert set(first) < set(drawn(world))
    await sync(other, challenged(number=3))
    both = len(set(first) & set(drawn(other)))
    assert both / len(PEOPLE) == pytest.approx(0.25**2, abs=0.02)  # drawn anew


async def test_in_shadow_everyone_is_answered_by_the_head_in_use() -> None:
    world = World()
    await sync(world, challenged(SHADOW, 1.0))
    served = world.registry.domains[KEY]
    assert served.trial is not None
    assert served.trial.challenger.head.head == HEAD_2.head
    assert {served.for_seeker(user_id) is served for user_id in PEOPLE[:100]} == {True}
    assert served.arm == Arm()


async def test_the_encoder_alone_may_be_challenged() -> None:
    world = World()
    await sync(world, challenged(head=DesiredHead("acme", "dating", "", "", "")))
    assert world.in_use == "test"
    assert drawn(world)


async def test_a_step_further_loads_nothing() -> None:
    world = World()
    await sync(world, challenged(SHADOW))
    await sync(world, challenged(CANARY))
    assert world.loads == [HEAD_1.head, HEAD_2.head]
    assert drawn(world)


async def test_a_promoted_challenger_takes_over_as_it_is_and_a_match_under_way_keeps_its_arms() -> (
    None
):
    world = World()
    await sync(world, challenged())
    before, seekers = world.registry.domains[KEY], drawn(world)
    await sync(world, HEAD_2)
    assert world.in_use == HEAD_2.head
    assert world.loads == [HEAD_1.head, HEAD_2.head]
    assert drawn(world) == []
    assert world.registry.domains[KEY].arm == Arm()
    assert before.for_seeker(seekers[0]).arm.name == CHALLENGER


async def test_a_challenger_that_is_returned_goes_and_the_head_in_use_stays() -> None:
    world = World()
    await sync(world, challenged())
    await sync(world, HEAD_1)
    assert world.in_use == HEAD_1.head
    served = world.registry.domains[KEY]
    assert (served.trial, served.arm) == (None, Arm())
    assert world.loads == [HEAD_1.head, HEAD_2.head]
    await sync(world, challenged())
    await sync(world)
    assert world.in_use == "test"
    assert world.registry.domains[KEY].trial is None


async def test_a_challenger_that_cannot_be_loaded_is_told_once_and_costs_nothing() -> None:
    world = World()
    world.broken = {HEAD_2.head}
    for _ in range(3):
        await sync(world, challenged())
    assert world.in_use == HEAD_1.head
    assert world.loads == [HEAD_1.head, HEAD_2.head]
    ((key, figures),) = world.journal.untold()
    assert (key, figures.errors_count) == (ROLLOUT, 1)
    assert "golden" in figures.error
    assert world.registry.failed == {}
    world.broken = set()
    await sync(world, challenged(number=3))
    assert drawn(world)


async def test_a_challenger_that_cannot_be_reached_holds_up_no_head() -> None:
    world = World()
    other = ("acme", "hiring")
    world.follower.apply(other, LAYOUT, profiles=rows([0, 1]), tallies=None, revision=0)
    world.follower.apply(other, LAYOUT, profiles=None, tallies=None, revision=1)
    hired = dataclasses.replace(HEAD_1, domain="hiring", head="u_acme.hiring.2026-05-17.001")
    world.unreachable = {HEAD_2.head}
    world.desired = [challenged(), hired]
    with pytest.raises(ExceptionGroup):
        await world.swapper.sync()
    assert world.in_use == HEAD_1.head
    assert world.registry.domains[other].head.head == hired.head
    assert world.journal.untold() == []  # nothing is wrong with the challenger
    world.unreachable = set()
    await sync(world, challenged())
    assert drawn(world)


async def test_what_is_measured_against_another_head_waits() -> None:
    """A process that could not load the head in use has nothing to compare the challenger with."""
    world = World()
    world.broken = {HEAD_1.head}
    await sync(world, challenged())
    assert world.registry.domains[KEY].trial is None


async def test_arms_stay_when_the_schema_grows() -> None:
    world = World()
    await sync(world, challenged())
    before = drawn(world)
    grown = Layout(
        version="dating.v2",
        fields=(*LAYOUT.fields, FieldSpec("pets", "hard", "boolean", ())),
        encoder="test",
        dim=8,
    )
    batch = rows([0, 1])
    wider = dataclasses.replace(batch, columns=np.hstack([batch.columns, [[1.0], [0.0]]]))
    world.follower.apply(KEY, grown, profiles=wider, tallies=None, revision=1)
    world.follower.apply(KEY, grown, profiles=None, tallies=None, revision=2)
    served = world.registry.domains[KEY]
    assert served.partition.layout == grown
    assert served.for_seeker(before[0]).partition is served.partition
    assert drawn(world) == before


async def test_a_challenger_that_does_not_fit_what_the_schema_has_become_goes() -> None:
    world = World()
    world.columns[HEAD_2.head] = (AGE, ("goal", "enum", ("fun", "love")))
    await sync(world, challenged())
    assert drawn(world)
    fields = tuple(f for f in LAYOUT.fields if f.name != "goal")
    shrunk = Layout(version="dating.v2", fields=fields, encoder="test", dim=8)
    batch = rows([0, 1])
    at = [field.name for field in LAYOUT.columns].index("goal")
    narrow = dataclasses.replace(batch, columns=np.delete(batch.columns, at, axis=1))
    world.follower.apply(KEY, shrunk, profiles=narrow, tallies=None, revision=1)
    world.follower.apply(KEY, shrunk, profiles=None, tallies=None, revision=2)
    assert world.in_use == HEAD_1.head
    assert world.registry.domains[KEY].trial is None


async def test_both_heads_search_the_same_index_each_with_its_own_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swap_heads, "INDEX_ROWS_MIN", 5)
    world = World()
    await sync(world, challenged())
    await world.swapper.refresh_indexes()
    served = world.registry.domains[KEY]
    assert served.trial is not None
    assert served.index is served.trial.challenger.index is not None
    assert served.trial.challenger.probes_count == 12
    assert drawn(world)
    await sync(world, HEAD_1)
    await sync(world, challenged(SHADOW))
    served = world.registry.domains[KEY]
    assert served.trial is not None
    assert served.trial.challenger.index is served.index
