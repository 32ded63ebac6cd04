"""The bundled data as a domain: every row is read, and the triplet store would take all of it."""

import csv
import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.mesh import speed_dating
from services.mesh.speed_dating import (
    FIRST_EVENT,
    INTERESTS,
    WANTS,
    Meeting,
    event_name,
    read_meetings,
    read_people,
    schema,
)
from services.triplets.core.outcome import LEVELS
from services.triplets.core.profile import check_values
from services.triplets.core.schema import Field, Schema, check_schema

NAMES = ["iid", "gender", "wave", "age", "goal", *INTERESTS, *WANTS, *speed_dating.SELF_RATINGS]
PLAIN = {"iid": "7", "gender": "0", "wave": "3", "age": "21", "goal": "2"}


def declared() -> Schema:
    """The schema as the triplet store keeps it."""
    fields = tuple(
        Field(**{**field, "members": tuple(field.get("members", ()))})
        for field in schema("dating")["fields"]
    )
    return Schema(domain="dating", number=1, fields=fields, encoder="test", dim=8)


def test_everyone_and_every_meeting_is_read() -> None:
    people, meetings = read_people(), read_meetings()
    ids = {person.user_id for person in people}
    assert (len(people), len(ids), len(meetings)) == (551, 551, 8_368)
    pairs = {(meeting.seeker, meeting.candidate) for meeting in meetings}
    assert len(pairs) == len(meetings)
    assert {(candidate, seeker) for seeker, candidate in pairs} == pairs
    assert {user_id for pair in pairs for user_id in pair} == ids


def test_people_meet_those_of_the_other_gender_at_their_own_event() -> None:
    people = {person.user_id: person for person in read_people()}
    for meeting in read_meetings():
        seeker, candidate = people[meeting.seeker], people[meeting.candidate]
        assert seeker.wave == candidate.wave == meeting.wave
        assert {seeker.gender, candidate.gender} == {"female", "male"}


def test_the_triplet_store_takes_the_schema_and_every_person() -> None:
    known = declared()
    check_schema(known)
    for person in read_people():
        body = person.user("dating")
        assert check_values(known, body["fields"]) == body["fields"]
        assert body["user_id"] == person.user_id


def test_every_meeting_is_an_outcome_at_the_day_of_its_event() -> None:
    items = [meeting.item() for meeting in read_meetings()]
    assert {item["outcome"] for item in items} == {"accepted", "rejected"} <= set(LEVELS)
    moments = {datetime.datetime.fromisoformat(item["occurred_at"]) for item in items}
    assert len(moments) == 21
    assert min(moments) == FIRST_EVENT
    assert max(moments) < datetime.datetime.now(datetime.UTC)
    accepted = Counter(item["outcome"] for item in items)["accepted"]
    assert accepted / len(items) == pytest.approx(0.42, abs=0.01)


def test_a_meeting_as_feedback() -> None:
    assert Meeting("p001", "p011", wave=2, yes=True).item() == {
        "seeker_id": "p001",
        "candidate_id": "p011",
        "outcome": "accepted",
        "occurred_at": "2002-11-13T19:00:00+00:00",
    }
    assert Meeting("p001", "p011", wave=2, yes=False).item()["outcome"] == "rejected"


def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **cells: str) -> dict[str, Any]:
    """The fields of a person of whom only some cells are filled."""
    monkeypatch.setattr(speed_dating, "DATA", tmp_path)
    with (tmp_path / "speed_dating_people.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, NAMES, restval="")
        writer.writeheader()
        writer.writerow(PLAIN | cells)
    (read,) = read_people()
    assert (read.user_id, read.wave, read.gender) == ("p007", 3, "female")
    return read.fields


def test_an_answer_that_was_not_given_is_no_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert person(tmp_path, monkeypatch, age="", goal="") == {
        "gender": "female",
        "event": "event-03",
        "about": "I have few hobbies.",
    }


def test_wishes_are_shares_whatever_they_were_given_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = dict(zip(WANTS, ("40", "20", "10", "10", "10", "10"), strict=True))
    marks = dict(zip(WANTS, ("8", "4", "2", "2", "2", "2"), strict=True))
    shares = dict(zip(WANTS, (0.4, 0.2, 0.1, 0.1, 0.1, 0.1), strict=True))
    for answers in (points, marks):
        fields = person(tmp_path, monkeypatch, **answers)
        assert {name: fields[name] for name in WANTS} == pytest.approx(shares)
    nothing = person(tmp_path, monkeypatch, **dict.fromkeys(WANTS, "0"))
    assert not set(WANTS) & set(nothing)


def test_the_text_names_what_a_person_is_fond_of_and_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = dict(zip(WANTS, ("10", "20", "10", "40", "10", "10"), strict=True))
    fields = person(tmp_path, monkeypatch, art="8", tv="9.5", yoga="7", reading="10", **wants)
    assert fields["about"] == (
        "I like art, reading, television. I am here for meeting new people."
        " I look for fun and sincerity."
    )
    assert (fields["art"], fields["yoga"], fields["age"]) == (8, 7, 21)


def test_events_are_named_in_their_order() -> None:
    names = [event_name(wave) for wave in range(1, 22)]
    assert names == sorted(names)
