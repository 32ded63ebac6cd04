"""Freezing training files: what comes out, and what is said of files that cannot be used."""

import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from safetensors.numpy import load
from trine.triplets.v1 import file_snapshot_service_pb2 as pb
from trine.triplets.v1 import file_snapshot_service_pb2_grpc

from services.triplets.core import create_file_snapshot
from services.triplets.core.file_dataset import FileArrays, Gatherer
from tests.support.server import MESH, refused
from tests.support.triplets import Store, open_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        yield opened


def line(anchor: object, positive: object, negative: object) -> bytes:
    return json.dumps({"anchor": anchor, "positive": positive, "negative": negative}).encode()


def file_of(count: int, start: int = 0) -> bytes:
    numbers = range(start, start + count)
    return b"\n".join(line(f"asks {n}", f"wants this {n}", f"wants that {n}") for n in numbers)


async def freeze(
    store: Store, training: bytes, validation: bytes | None = None, method: str = ""
) -> pb.CreateFileSnapshotResponse:
    request = pb.CreateFileSnapshotRequest(
        tenant="acme",
        training_file_digest=await store.artifacts.put(training),
        validation_file_digest="" if validation is None else await store.artifacts.put(validation),
        method=method,
    )
    stub = file_snapshot_service_pb2_grpc.FileSnapshotServiceStub(store.channel)
    answer: pb.CreateFileSnapshotResponse = await stub.CreateFileSnapshot(request, metadata=MESH)
    return answer


async def test_a_small_file_is_learned_from_as_a_whole(store: Store) -> None:
    answer = await freeze(store, file_of(10))
    assert (answer.training_lines_count, answer.held_out_lines_count) == (10, 0)
    assert answer.items_count == 30
    assert answer.tokens_count == 10 * (2 + 3 + 3)
    assert answer.method == "triplet"
    arrays = load(await store.artifacts.get(answer.digest))
    assert arrays["vectors"].shape == (30, 2)
    assert arrays["triplets"].shape == (10, 3)
    assert arrays["columns"].shape == (30, 0)
    assert not arrays["held_out"].any()


async def test_a_tenth_of_the_anchors_of_a_larger_file_is_held_out(store: Store) -> None:
    answer = await freeze(store, file_of(60))
    assert answer.held_out_lines_count == 6
    arrays = load(await store.artifacts.get(answer.digest))
    held = set(arrays["seekers"][arrays["held_out"] == 1].tolist())
    learned = set(arrays["seekers"][arrays["held_out"] == 0].tolist())
    assert (len(held), len(learned), held & learned) == (6, 54, set())
    assert answer.tokens_count == 54 * 8
    assert (await freeze(store, file_of(60))).digest == answer.digest


async def test_a_validation_file_is_held_out_instead(store: Store) -> None:
    answer = await freeze(store, file_of(60), file_of(20, start=60))
    counts = (answer.training_lines_count, answer.validation_lines_count)
    assert (*counts, answer.held_out_lines_count) == (60, 20, 20)


async def test_texts_are_encoded_once_in_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_file_snapshot, "ENCODED_TEXTS", 4)
    await freeze(store, b"\n".join([file_of(5), file_of(5)]))
    assert len(store.encoder.texts) == len(set(store.encoder.texts)) == 15


async def test_people_and_vectors_stand_beside_texts(store: Store) -> None:
    await store.put_schema()
    await store.upsert("ann", fields={"age": 31}, context="likes the sea")
    await store.upsert("bob", fields={"age": 32})
    ann = {"user_id": "ann", "domain": "dating"}
    answer = await freeze(store, line(ann, [0.6, 0.8], "mountains"))
    vectors = load(await store.artifacts.get(answer.digest))["vectors"]
    assert vectors[1].tolist() == pytest.approx([0.6, 0.8], abs=1e-3)
    nobody, wordless = ann | {"user_id": "zoe"}, ann | {"user_id": "bob"}
    others = [line(who, "a", "b") for who in (nobody, wordless)]
    content = b"\n".join([line(ann, "sea", "hill"), *others])
    refusal = await refused(freeze(store, content))
    assert "line 2: the person 'zoe' of 'dating' is not there" in refusal.message
    assert "line 3: the person 'bob' of 'dating' is without a vector" in refusal.message


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        (b"", "it has no lines"),
        (b"\n\n", "it has no lines"),
        (file_of(2) + b'\n{"anchor": "a", "positive": "b"}', "line 3: negative is missing"),
        (line([1, 2, 3], "a", "b"), "line 1: anchor must have 2 numbers, not 3"),
    ],
)
async def test_a_bad_training_file_is_refused_before_anything_is_encoded(
    store: Store, training: bytes, problem: str
) -> None:
    refusal = await refused(freeze(store, training))
    assert refusal.reason == "INVALID_TRAINING_FILE"
    assert problem in refusal.message
    assert store.encoder.texts == []


async def test_a_bad_validation_file_is_refused_as_such(store: Store) -> None:
    overlapping = await refused(freeze(store, file_of(5), file_of(5, start=4)))
    assert overlapping.reason == "INVALID_VALIDATION_FILE"
    assert "line 1: anchor and positive are in the training file too" in overlapping.message
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    other = await refused(freeze(store, file_of(5), json.dumps(chat).encode()))
    assert (other.reason, "line 1: is a chat" in other.message) == ("INVALID_VALIDATION_FILE", True)


async def test_limits_files_that_are_gone_and_unknown_methods_are_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_file_snapshot, "LINES_MAX", 4)
    assert "more than 4 lines" in (await refused(freeze(store, file_of(5)))).message
    assert (await refused(freeze(store, file_of(1), method="magic"))).reason == "FIELD_INVALID"
    request: Any = pb.CreateFileSnapshotRequest(tenant="acme", training_file_digest="0" * 64)
    stub = file_snapshot_service_pb2_grpc.FileSnapshotServiceStub(store.channel)
    refusal = await refused(stub.CreateFileSnapshot(request, metadata=MESH))
    assert (refusal.reason, "not there" in refusal.message) == ("INVALID_TRAINING_FILE", True)


async def test_arrays_are_made_beside_the_loop_that_others_wait_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Gatherer.arrays
    threads: list[threading.Thread] = []

    def arrays(gatherer: Gatherer, *arguments: Any) -> FileArrays:
        threads.append(threading.current_thread())
        return make(gatherer, *arguments)

    monkeypatch.setattr(Gatherer, "arrays", arrays)
    await freeze(store, file_of(10))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
