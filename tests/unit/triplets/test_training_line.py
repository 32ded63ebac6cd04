"""Lines of training files: a corpus of good and of malformed ones."""

import json
from typing import Any

import pytest

from services.triplets.core.training_line import Form, LineError, Person, parse_line

PERSON = {"user_id": "ann", "domain": "dating"}


def read(content: object) -> Any:
    return parse_line(json.dumps(content).encode(), dim=3)


def said(role: str, content: object, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


def triplet(**changes: object) -> dict[str, object]:
    return {"anchor": "sea", "positive": "boat", "negative": "hill"} | changes


def preference(**changes: object) -> dict[str, object]:
    return {
        "input": {"messages": [said("system", "Be kind."), said("user", "Hello?")]},
        "preferred_output": [said("assistant", "Hello!")],
        "non_preferred_output": [said("assistant", "What.")],
    } | changes


def test_a_triplet_of_texts() -> None:
    line = read(triplet(anchor="  sea ", weight=2))
    assert (line.form, line.anchor, line.positive, line.negative) == (
        Form.TRIPLET,
        "sea",
        "boat",
        "hill",
    )
    assert line.weight == 2.0


def test_a_triplet_of_people_and_vectors() -> None:
    line = read(triplet(anchor=PERSON, positive=[3, 0, 4]))
    assert line.anchor == Person("dating", "ann")
    assert line.positive == (0.6, 0.0, 0.8)
    assert read(triplet(positive=[6, 0, 8])) == read(triplet(positive=[3.0, 0.0, 4.0]))


@pytest.mark.parametrize(
    "content",
    [
        preference(tools=[], parallel_tool_calls=True),
        {
            "input": preference()["input"],
            "preferred_completion": [said("assistant", "Hello!")],
            "non_preferred_completion": [said("assistant", "What.")],
        },
        preference(input="Hello?", preferred_output="Hello!", non_preferred_output="What."),
        preference(input=[said("user", [{"type": "text", "text": "Hello?"}])]),
        preference(input=[said("user", "First"), said("assistant", "Yes"), said("user", "Hello?")]),
    ],
    ids=["new names", "old names", "bare texts", "parts", "several turns"],
)
def test_a_preference_is_the_last_question_and_two_answers(content: object) -> None:
    line = read(content)
    assert (line.form, line.anchor) == (Form.PREFERENCE, "Hello?")
    assert (line.positive, line.negative, line.weight) == ("Hello!", "What.", 1.0)


def test_a_chat_is_the_last_answer_and_the_question_before_it() -> None:
    messages = [
        said("system", "Be kind."),
        said("user", "One?"),
        said("assistant", "1"),
        said("user", "Two?"),
        said("assistant", "2"),
        said("assistant", "3", weight=0),
    ]
    line = read({"messages": messages, "tools": []})
    assert (line.form, line.anchor, line.positive, line.negative) == (
        Form.CHAT,
        "Two?",
        "2",
        None,
    )


MALFORMED: list[tuple[bytes | object, str]] = [
    (b'{"anchor": "a"', "is not JSON at character"),
    (b"\xff\xfe", "is not UTF-8"),
    (b'{"anchor": NaN}', "has NaN"),
    (b"[" * 100_000, "is nested too deeply"),
    (b'{"anchor": "\\ud800", "positive": "b", "negative": "c"}', "lone surrogate"),
    ([], "must be a JSON object"),
    ("text", "must be a JSON object"),
    ({}, "is of none of the three forms"),
    ({"prompt": "a", "completion": "b"}, "is of none of the three forms"),
    ({"positive": "b", "negative": "c"}, "anchor is missing"),
    ({"anchor": "a", "negative": "c"}, "positive is missing"),
    ({"anchor": "a", "positive": "b"}, "negative is missing"),
    (triplet(weigth=2), "'weigth' is no key of a triplet"),
    (triplet(anchor=" "), "anchor must not be empty"),
    (triplet(anchor="x" * 100_001), "anchor must have at most 100000 characters"),
    (triplet(anchor=None), "anchor must be a text, a list of numbers, or an object"),
    (triplet(anchor=True), "anchor must be a text"),
    (triplet(negative="boat"), "positive and negative must differ"),
    (triplet(anchor={"user_id": "ann"}), "anchor.domain must be a text"),
    (triplet(anchor={"user_id": 7, "domain": "d"}), "anchor.user_id must be a text"),
    (triplet(anchor={"user_id": "a b", "domain": "d"}), "anchor.user_id must"),
    (triplet(anchor=PERSON | {"id": 1}), "anchor.id is no key of a person"),
    (triplet(negative=[1, 2]), "negative must have 3 numbers, not 2"),
    (triplet(negative=[1, 2, "3"]), "negative must be a list of finite numbers"),
    (triplet(negative=[1, 2, [3]]), "negative must be a list of finite numbers"),
    (triplet(negative=[1, 2, True]), "negative must be a list of finite numbers"),
    (triplet(negative=[0, 0, 0]), "negative must not be zero"),
    (triplet(negative=[1.7e308, 1.7e308, 1.7e308]), "negative must not be zero or beyond"),
    (triplet(negative=[10**400, 0, 0]), "negative must be a list of finite numbers"),
    (triplet(weight=0), "weight must be a number above 0"),
    (triplet(weight="2"), "weight must be a number above 0"),
    (triplet(weight=True), "weight must be a number above 0"),
    (triplet(weight=1e9), "weight must be a number above 0"),
    ({"preferred_output": [], "non_preferred_output": []}, "input is missing"),
    ({"input": "a", "preferred_output": "b"}, "non_preferred_output is missing"),
    ({"input": "a", "non_preferred_output": "b"}, "preferred_output is missing"),
    (preference(input={}), "input.messages must be a list of messages"),
    (preference(input=[said("system", "x")]), "input.messages must have a message of the user"),
    (preference(input=[7]), "input.messages must be messages with a role"),
    (preference(preferred_output=[]), "preferred_output must have a message of the assistant"),
    (preference(preferred_output=[said("assistant", None)]), "must have texts as content"),
    (preference(preferred_output=[said("assistant", [{"type": "image"}])]), "must have texts"),
    (preference(preferred_output="What."), "preferred_output and non_preferred_output must differ"),
    ({"messages": []}, "messages must be a list of messages"),
    ({"messages": "hi"}, "messages must be a list of messages"),
    ({"messages": [said("user", "a")]}, "messages must have an answer of the assistant"),
    ({"messages": [said("assistant", "a")]}, "messages must have a message of the user"),
    ({"messages": [said("user", "a"), said("assistant", "b", weight=0)]}, "must have an answer"),
]


@pytest.mark.parametrize(("content", "problem"), MALFORMED)
def test_a_malformed_line_is_told_by_what_is_wrong(content: object, problem: str) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(LineError, match=problem.replace("(", r"\(")):
        parse_line(text, dim=3)
