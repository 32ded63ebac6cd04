"""Training files made to do harm: every line is a line or a complaint, whatever its bytes."""

import json
import random

import pytest

from services.triplets.core.file_dataset import ERRORS_TOLD_MAX, LineReader
from tests.support.fuzzing import Fuzzer

CHAT: dict[str, object] = {
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
}
FORMS: tuple[dict[str, object], ...] = (
    {"anchor": "a", "positive": "b", "negative": "c", "weight": 0.5},
    {"anchor": {"user_id": "u1", "domain": "people"}, "positive": [1, 2, 3], "negative": "c"},
    {
        "input": CHAT,
        "preferred_output": [{"role": "assistant", "content": "b"}],
        "non_preferred_output": [{"role": "assistant", "content": "c"}],
    },
    CHAT,
)
CRAFTED = (
    *(b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 100_000, b"{" * 100_000, b'"', b"null"),
    *(b"NaN", b"1e999", b"-", b"{}", b"[]", b"[[]]", b"true", b'{"anchor": "a"}', b'{"": {}}'),
    b'{"anchor": "a", "anchor": "b", "positive": "b", "negative": "c"}',
    b'{"anchor": "a\\u0000", "positive": "b", "negative": "c"}',
    b'{"anchor": [1e39, 0, 0], "positive": "b", "negative": "c"}',
    b'{"anchor": [NaN, 0, 0], "positive": "b", "negative": "c"}',
    b'{"anchor": "a", "positive": "b", "negative": "c", "weight": 1' + b"0" * 5_000 + b"}",
    b'{"anchor": {"user_id": "\\ud800"}, "positive": "b", "negative": "c"}',
    b'{"messages": [{"role": "user", "content": [{"type": "text", "text": {}}]}]}',
    b'{"messages": ' + b'[{"a":' * 5_000 + b"1" + b"}]" * 5_000 + b"}",
)
LINES_COUNT = 4_000


def check(content: bytes) -> None:
    """Reads a file of one line."""
    reader = LineReader(3, "")
    found = [*reader.read(content + b"\n"), *reader.end()]
    assert len(reader.errors) <= ERRORS_TOLD_MAX
    assert reader.lines_count == len(found)
    for error in reader.errors:
        number, _, said = error.partition(": ")
        assert number.startswith("line ")
        assert said
        assert "Traceback" not in said


@pytest.mark.parametrize("number", range(len(CRAFTED)))
def test_a_crafted_line_is_a_line_or_a_complaint(number: int) -> None:
    check(CRAFTED[number])


def test_damaged_lines_are_lines_or_complaints() -> None:
    fuzzer, dice = Fuzzer(seed=1), random.Random(2)
    for _ in range(LINES_COUNT):
        content = json.dumps(swapped(dice, dice.choice(FORMS)), ensure_ascii=False)
        check(fuzzer.damage(content.encode("utf-8", "surrogatepass")))


def swapped(dice: random.Random, value: object) -> object:
    """A value in which some things have become others."""
    if dice.random() < 0.1:
        return dice.choice(
            (None, "", "\0", 0, -1, 1e308, [], {}, True, "x" * 1_000, [[]], "\ud800")
        )
    if isinstance(value, dict):
        return {key: swapped(dice, item) for key, item in value.items() if dice.random() > 0.05}
    return [swapped(dice, item) for item in value] if isinstance(value, list) else value
