"""What an extractor makes of a text: given values stay, doubt is no value, a model is checked."""

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.triplets.core.errors import FieldInvalidError
from services.triplets.core.extraction.extract import EXTRACTION, Extractor, added_values
from services.triplets.core.extraction.found import Found, agreed
from services.triplets.core.extraction.members import member_texts, read_member, readable
from services.triplets.core.extraction.plain import read_plain
from services.triplets.core.extraction.ports import ReaderFailedError
from services.triplets.core.profile import Provenance
from services.triplets.core.schema import Field, Schema
from tests.support.places import MemoryGazetteer

NOW = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)
GOAL = Field(
    name="goal",
    kind="hard",
    type="enum",
    members=("long_term", "casual"),
    member_descriptions=(("casual", "no strings"),),
)
FIELDS = (
    GOAL,
    Field(name="age", kind="hard", type="integer"),
    Field(name="smokes", kind="hard", type="boolean"),
    Field(name="available_from", kind="hard", type="timestamp"),
    Field(name="place", kind="hard", type="geo"),
    Field(name="location", kind="hard", type="string"),
    Field(name="about", kind="soft", type="string"),
)
TEXT = "I'm 34. I live in New York, NY. I don't smoke. Something casual please."


class Encoder:
    """Knows "casual" and "long term" from everything else."""

    name = "test"
    dim = 3

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        self.calls.append(list(texts))
        words = ("casual", "long term", "")
        which = [next(i for i, word in enumerate(words) if word in text) for text in texts]
        return np.eye(3, dtype=np.float16)[which]


class Reader:
    """Says what it was made to say."""

    def __init__(self, readings: Mapping[str, object] | None) -> None:
        self.readings = readings

    async def read(self, fields: Sequence[Field], text: str) -> Mapping[str, object]:
        if self.readings is None:
            raise ReaderFailedError("is away")
        return self.readings


def schema(encoder: str = "test") -> Schema:
    return Schema(domain="dating", number=1, fields=FIELDS, encoder=encoder, dim=3)


def extractor(reader: Reader | None = None, encoder: Encoder | None = None) -> Extractor:
    return Extractor(encoder or Encoder(), MemoryGazetteer(), reader)


async def values(text: str, made: Extractor | None = None, **known: object) -> dict[str, object]:
    found = await (made or extractor()).extract(schema(), text, known)
    return {name: one.value for name, one in found.items()}


async def test_a_text_gives_values_of_every_type() -> None:
    text = f"{TEXT} Available from 2026-06-01."
    assert await values(text) == {
        "age": 34,
        "smokes": False,
        "available_from": "2026-06-01T00:00:00Z",
        "place": {"lat": 40.71, "lon": -74.01},
        "location": "New York City, NY",
        "goal": "casual",
    }


async def test_a_given_field_is_not_looked_for() -> None:
    encoder = Encoder()
    assert "age" not in await values(TEXT, extractor(encoder=encoder), age=3, goal="casual")
    assert encoder.calls == []
    assert await values("  ") == {}


async def test_members_are_encoded_once() -> None:
    encoder = Encoder()
    made = extractor(encoder=encoder)
    for _ in range(3):
        await values("Something casual please.", made)
    assert encoder.calls.count(member_texts(GOAL)) == 1


async def test_callers_vectors_mean_no_encoder() -> None:
    encoder = Encoder()
    found = await extractor(encoder=encoder).extract(schema("caller"), TEXT, {})
    assert set(found) == {"age", "smokes", "place", "location"}
    assert encoder.calls == []


def test_sentences_with_a_not_are_not_shown_to_the_encoder() -> None:
    assert readable("I don't want it casual. Nothing casual! I like it casual. Casual.") == [
        "I like it casual."
    ]


def test_a_member_needs_a_margin_and_sentences_must_agree() -> None:
    members = np.tile(np.eye(2, dtype=np.float16), (2, 1))
    sure, torn, other = [0.8, 0.1], [0.6, 0.6], [0.1, 0.8]

    def member(*rows: list[float]) -> object:
        vectors = np.array(rows, np.float16).reshape(len(rows), 2)
        found = read_member(GOAL, ["text"] * len(rows), vectors, members)
        return None if found is None else found.value

    assert member(sure) == member(sure, torn) == "long_term"
    assert [member(torn), member(sure, other), member([0.2, 0.1]), member()] == [None] * 4
    texts = ["long term", "casual: no strings"]
    assert member_texts(GOAL) == texts + [f"goal: {text}" for text in texts]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I smoke", True),
        ("I don't smoke.", False),
        ("smokes: yes", True),
        ("I smoke. I never smoke.", None),
        ("My wife says I smoke", None),
        ("She smokes", None),
        ("I smoke salmon", None),
    ],
)
def test_a_boolean_is_read_only_where_a_clause_says_it(text: str, value: object) -> None:
    found = read_plain([FIELDS[2]], text).get("smokes")
    assert (None if found is None else found.value) is value


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Available from 17 May 2026", "2026-05-17"),
        ("I'm available on May 3rd, 2027", "2027-05-03"),
        ("not available from 2026-05-17", None),
        ("available from 2026-02-30", None),
        ("It was 2026-05-17", None),
    ],
)
def test_a_date_is_read_behind_the_fields_words(text: str, day: str | None) -> None:
    found = read_plain([FIELDS[3]], text).get("available_from")
    assert (None if found is None else found.value) == (day and f"{day}T00:00:00Z")


async def test_a_models_readings_are_checked() -> None:
    sound = {"value": 34, "quote": "i'm  34", "confidence": 0.9}
    assert await values(TEXT, extractor(Reader({"age": sound}))) == {"age": 34}
    for broken in (
        {"value": "old"},
        {"value": 34.5},
        {"value": None},
        {"quote": "I'm 35"},
        {"quote": ""},
        {"quote": 3},
        {"confidence": 0.2},
        {"confidence": 2},
        {"confidence": True},
        {"confidence": "sure"},
    ):
        assert await values(TEXT, extractor(Reader({"age": sound | broken}))) == {}
    noise = {"age": 34, "about": sound, "shoe": sound, "goal": sound}
    assert await values(TEXT, extractor(Reader(noise))) == {}


async def test_when_the_model_fails_the_rest_reads() -> None:
    assert await values(TEXT, extractor(Reader(None))) == await values(TEXT)


def test_a_place_is_named_for_a_point() -> None:
    made = extractor()
    resolved = made.resolve_places(schema(), {"place": "Paris, TX", "location": "Paris, TX"})
    assert resolved == {"place": {"lat": 33.66, "lon": -95.56}, "location": "Paris, TX"}
    with pytest.raises(FieldInvalidError, match=r"fields\.place"):
        made.resolve_places(schema(), {"place": "Springfield"})


READ = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.builds(Found, st.floats(0, 9), st.just(0.9), st.just("x"))
)
ORIGINS = st.builds(
    Provenance,
    st.sampled_from(["fields", EXTRACTION]),
    st.sampled_from([NOW - datetime.timedelta(days=1), NOW, NOW + datetime.timedelta(days=1)]),
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), ORIGINS), READ)
def test_a_given_value_and_a_later_word_always_stay(
    known: dict[str, Provenance], read: dict[str, Found]
) -> None:
    added = added_values(known, read, NOW)
    assert added.values.keys() == added.provenance.keys() <= read.keys()
    for name in read:
        stays = name in known and (known[name].source == "fields" or known[name].at > NOW)
        assert (name in added.values) is not stays


@given(st.lists(st.builds(Found, st.integers(0, 2), st.floats(0, 1), st.just(""))))
def test_findings_that_differ_are_none(several: list[Found]) -> None:
    found = agreed(several)
    assert (found is not None) == (len({one.value for one in several}) == 1)
    assert found is None or found.confidence == max(one.confidence for one in several)
