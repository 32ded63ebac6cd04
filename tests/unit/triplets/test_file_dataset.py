"""Training files as arrays: whatever the chunks, the same lines, numbers and triplets."""

import json

import numpy as np
import pytest

from services.triplets.core.file_dataset import (
    ERRORS_TOLD_MAX,
    LINE_BYTES_MAX,
    NEGATIVES_MAX,
    NO_NEGATIVE,
    FileArrays,
    Gatherer,
    LineReader,
    item_key,
)
from services.triplets.core.training_line import Item, Line, Person


def line(anchor: str, positive: str, negative: str, weight: float = 1.0) -> str:
    content = {"anchor": anchor, "positive": positive, "negative": negative, "weight": weight}
    return json.dumps(content)


CHAT = json.dumps(
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
)


def read(text: str, chunk: int = 1_000_000, method: str = "") -> tuple[LineReader, list[Line]]:
    reader, content = LineReader(3, method), text.encode()
    found = []
    for start in range(0, len(content), chunk):
        found += reader.read(content[start : start + chunk])
    found += reader.end()
    return reader, [parsed for _, parsed in found]


def gather(*lines: str, held_out: frozenset[str] = frozenset()) -> tuple[Gatherer, FileArrays]:
    gatherer = Gatherer()
    for parsed in read("\n".join(lines))[1]:
        gatherer.add(parsed, held_out=parsed.anchor in held_out)
    vectors = np.zeros((gatherer.items_count, 3), np.float16)
    return gatherer, gatherer.arrays("test", "triplet", vectors, [1] * len(vectors))


TEXT = "\ufeff" + "\n".join(
    [line("a", "b", "c"), "", line("é", "b", "d") + "\r", line("a", "d", "e")]
)


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_lines_do_not_depend_on_chunks(chunk: int, end: str) -> None:
    reader, lines = read(TEXT + end, chunk)
    assert [parsed.anchor for parsed in lines] == ["a", "é", "a"]
    assert (reader.errors, reader.lines_count, reader.method) == ([], 3, "triplet")


def test_errors_are_told_with_their_lines_and_end_the_reading() -> None:
    bad = [line("a", "b", "c"), "{}", "", '{"anchor": "a"}', *["x"] * 50]
    reader, _ = read("\n".join(bad))
    assert [error.split(":")[0] for error in reader.errors[:3]] == ["line 2", "line 4", "line 5"]
    assert len(reader.errors) == ERRORS_TOLD_MAX


def test_a_line_without_an_end_is_not_kept() -> None:
    reader = LineReader(3, "")
    for _ in range(3):
        reader.read(b"x" * LINE_BYTES_MAX)
    assert reader.errors == [f"line 1: has more than {LINE_BYTES_MAX} bytes"]
    assert reader.given_up


def test_a_long_line_within_a_chunk_is_refused() -> None:
    reader, _ = read(line("a", "b", "x" * LINE_BYTES_MAX) + "\n" + line("a", "b", "c"))
    assert reader.errors == [f"line 1: has more than {LINE_BYTES_MAX} bytes"]


def test_a_file_is_of_one_form() -> None:
    reader, _ = read("\n".join([line("a", "b", "c"), CHAT]))
    assert reader.errors == ["line 2: is a chat, and those before are of the form triplet"]


@pytest.mark.parametrize(
    ("method", "text", "problem"),
    [
        ("supervised", line("a", "b", "c"), "the method supervised reads a chat"),
        ("dpo", CHAT, "the method dpo reads a preference or triplet"),
        ("triplet", CHAT, "the method triplet reads a preference or triplet"),
    ],
)
def test_a_method_reads_its_forms_alone(method: str, text: str, problem: str) -> None:
    reader, _ = read(text, method=method)
    assert problem in reader.errors[0]


def test_the_lines_tell_the_method() -> None:
    assert read(CHAT)[0].method == "supervised"
    assert read(line("a", "b", "c"), method="dpo")[0].method == "dpo"


def test_equal_items_are_one_and_others_are_not() -> None:
    assert item_key((1.0, 0.0)) == item_key((1.0, 0.0))
    different: list[Item] = ["a", "b", Person("a", "b"), Person("b", "a"), (1.0, 0.0), (0.0, 1.0)]
    assert len({item_key(item) for item in different}) == len(different)


def test_outcomes_and_triplets_are_formed_as_given() -> None:
    gatherer, arrays = gather(
        line("a", "b", "c", 2), line("d", "c", "b"), line("a", "b", "d", 3), held_out=frozenset("d")
    )
    assert gatherer.take_new() == ["a", "b", "c", "d"]
    assert gatherer.take_new() == []
    outcomes = list(
        zip(arrays.seekers, arrays.candidates, arrays.levels, arrays.held_out, strict=True)
    )
    assert outcomes == [(0, 1, 2, 0), (0, 2, 0, 0), (3, 2, 2, 1), (3, 1, 0, 1), (0, 3, 0, 0)]
    assert arrays.triplets.tolist() == [[0, 0, 1], [0, 0, 4], [3, 2, 3]]
    assert arrays.triplet_weights.tolist() == [2, 3, 1]
    assert gatherer.held_out_lines_count == 1
    assert gatherer.uses == {0: 2, 1: 2, 2: 1, 3: 1}
    assert len(set(arrays.item_hashes.tolist())) == 4


def test_a_chat_has_no_negative() -> None:
    _, arrays = gather(CHAT)
    assert arrays.triplets.tolist() == [[0, 0, NO_NEGATIVE]]


def test_what_is_preferred_to_very_much_is_divided() -> None:
    lines = [line("a", "b", f"n{number}") for number in range(NEGATIVES_MAX + 1)]
    _, arrays = gather(*lines)
    positives, counts = np.unique(arrays.triplets[:, 1], return_counts=True)
    assert sorted(counts.tolist()) == [1, NEGATIVES_MAX]
    assert [(arrays.seekers[row], arrays.candidates[row]) for row in positives] == [(0, 1)] * 2
