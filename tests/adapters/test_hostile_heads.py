"""Heads made to do harm: none is loaded, none takes more than it is given, the one in use stays."""

import dataclasses
import resource
import time

import pytest

from services.serving.artifacts import ArtifactBundles
from services.serving.core.errors import HeadRefusedError
from services.serving.core.ports import DesiredHead, DesiredModel
from services.serving.graph import check_graph
from services.serving.probe import Probe
from tests.support.heads import LAYOUT, HeadShelf, learned_head
from tests.support.hostile_graphs import GRAPHS, changed, endless_work, memory_bomb, million_nodes
from tests.support.mutated_heads import Mutator
from tests.support.probes import PROBE
from tests.support.signatures import SIGNER, STRANGER, VERIFIER

PARTS = [getattr(learned_head().files, name) for name in ("query_map", "person", "light", "cross")]


def with_light(content: bytes) -> list[bytes]:
    """The parts of a head with another linear part."""
    return [*PARTS[:2], content, PARTS[3]]


def test_every_part_of_a_head_is_what_heads_are_made_of() -> None:
    for part in PARTS:
        check_graph(part)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_heads_are_not_made_of_is_refused_unopened(name: str) -> None:
    change, message = GRAPHS[name]
    with pytest.raises(HeadRefusedError, match=message):
        check_graph(changed(change))


def test_reading_ends_soon_however_much_there_is() -> None:
    content = million_nodes()
    began = time.process_time()
    with pytest.raises(HeadRefusedError, match="more than 200000 fields"):
        check_graph(content)
    assert time.process_time() - began < 3


def test_a_field_that_comes_twice_is_refused() -> None:
    for twice in (PARTS[2] + PARTS[2], PARTS[2] + PARTS[2][:2]):
        with pytest.raises(HeadRefusedError, match="twice"):
            check_graph(twice)


def test_a_graph_that_is_cut_off_or_wiped_out_is_refused() -> None:
    light = PARTS[2]
    for end in range(len(light)):
        with pytest.raises(HeadRefusedError):
            check_graph(light[:end])
    with pytest.raises(HeadRefusedError):
        check_graph(bytes(len(light)))
    with pytest.raises(HeadRefusedError, match="64 bits"):
        check_graph(b"\x08" + b"\xff" * 20)


def test_what_takes_too_much_memory_ends_where_it_is_tried() -> None:
    content = memory_bomb()
    check_graph(content)
    with pytest.raises(HeadRefusedError):
        PROBE.try_head(with_light(content), learned_head().golden)
    PROBE.try_head(PARTS, learned_head().golden)


def test_what_does_not_end_is_ended_where_it_is_tried() -> None:
    content = endless_work()
    check_graph(content)
    probe = Probe(cpu_seconds=1)
    try:
        with pytest.raises(HeadRefusedError, match="ends the process that tries it: -"):
            probe.try_head(with_light(content), learned_head().golden)
        probe.try_head(PARTS, learned_head().golden)
    finally:
        probe.close()


def test_when_the_process_that_tries_heads_has_ended_the_next_head_gets_another() -> None:
    probe = Probe()
    try:
        probe.start()
        assert probe._process is not None
        probe._process.kill()
        probe._process.wait()
        probe.try_head(PARTS, learned_head().golden)
    finally:
        probe.close()


async def refused(shelf: HeadShelf, desired: DesiredHead) -> str:
    """Why a head is not loaded."""
    with pytest.raises(HeadRefusedError) as caught:
        await ArtifactBundles(shelf.artifacts, VERIFIER, PROBE).load(desired)
    return str(caught.value)


async def test_only_a_head_that_is_signed_for_its_tenant_is_loaded() -> None:
    shelf = HeadShelf()
    desired = await shelf.store()
    content = VERIFIER.open(await shelf.artifacts.get(desired.manifest_digest))
    for signed, message in (
        (content, "is not signed"),
        (STRANGER.sign(content), "by a key that is not allowed"),
        (SIGNER.sign(b"{}").partition(b"\n")[0] + b"\n" + content, "another signature"),
        (SIGNER.sign(content[:-1] + b',"head":"other"}'), "duplicate key"),
        (SIGNER.sign(b'{"later":' + b"[" * 500_000), "recursion"),
        (SIGNER.sign(content + b" " * 2**20), "larger than"),
    ):
        digest = await shelf.artifacts.put(signed)
        assert message in await refused(shelf, dataclasses.replace(desired, manifest_digest=digest))
    others = dataclasses.replace(desired, tenant="other")
    assert "its manifest is that of" in await refused(shelf, others)


async def test_what_cannot_be_tried_is_not_opened_by_serving() -> None:
    shelf = HeadShelf()
    files = dataclasses.replace(learned_head().files, light=memory_bomb())
    desired = await shelf.store(head=dataclasses.replace(learned_head(), files=files))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await refused(shelf, desired)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
    assert grown < 400_000, "kilobytes: the head takes 784 MB"


async def test_the_same_gate_stands_before_models() -> None:
    shelf, graph = HeadShelf(), changed(GRAPHS["an endless loop"][0])
    files = dataclasses.replace(learned_head().files, query_map=graph)
    stored = await shelf.store(head=dataclasses.replace(learned_head(), files=files))
    desired = DesiredModel(stored.tenant, stored.head, stored.manifest_digest)
    with pytest.raises(HeadRefusedError, match="which no head has"):
        await ArtifactBundles(shelf.artifacts, VERIFIER, PROBE).load_map(
            desired, (LAYOUT.encoder, LAYOUT.dim)
        )


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_head_with_something_changed_is_loaded(seed: int) -> None:
    mutator = Mutator(seed)
    for _ in range(200):
        await mutator.change_bytes()
    for _ in range(60):
        await mutator.sign_anew()
    assert (mutator.as_they_are.wrong, mutator.signed_anew.wrong) == ([], [])
    assert set(mutator.as_they_are.refused) == {"digest"}
    assert mutator.signed_anew.refused.total() > mutator.signed_anew.unchanged > 0
