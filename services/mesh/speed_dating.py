"""The Columbia speed-dating experiment as a domain of Trine: schema, people and outcomes.

What is bundled, and on what terms, stands in data/NOTICE.md.
"""

import csv
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

INTERESTS = (
    "sports", "tvsports", "exercise", "dining", "museums", "art", "hiking", "gaming", "clubbing",
    "reading", "tv", "theater", "movies", "concerts", "music", "shopping", "yoga",
)  # fmt: skip
WANTS = {
    "attr1_1": "attractiveness",
    "sinc1_1": "sincerity",
    "intel1_1": "intelligence",
    "fun1_1": "fun",
    "amb1_1": "ambition",
    "shar1_1": "shared interests",
}
SELF_RATINGS = ("attr3_1", "sinc3_1", "fun3_1", "intel3_1", "amb3_1")
GOALS = {
    "1": "a fun night out",
    "2": "meeting new people",
    "3": "getting a date",
    "4": "a serious relationship",
    "5": "being able to say I did it",
    "6": "something else",
}
GENDERS = {"0": "female", "1": "male"}
SPOKEN = {"tvsports": "watching sports", "tv": "television", "dining": "dining out"}
FOND = 8
"""Of ten: an interest that a person would name."""

FIRST_EVENT = datetime.datetime(2002, 10, 16, 19, tzinfo=datetime.UTC)
"""The data number the events in their order; the days between them are made up."""
DAYS_BETWEEN = 28

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Meeting:
    """Who met whom at which event, and whether the seeker said yes."""

    seeker: str
    candidate: str
    wave: int
    yes: bool

    def item(self) -> Json:
        """The meeting as an item of POST /v1/feedback."""
        moment = FIRST_EVENT + datetime.timedelta(days=DAYS_BETWEEN * (self.wave - 1))
        return {
            "seeker_id": self.seeker,
            "candidate_id": self.candidate,
            "outcome": "accepted" if self.yes else "rejected",
            "occurred_at": moment.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Person:
    """One participant."""

    user_id: str
    wave: int
    gender: str
    fields: Json

    def user(self, domain: str) -> Json:
        """The person as a body of POST /v1/users."""
        return {"user_id": self.user_id, "domain": domain, "fields": self.fields}


def event_name(wave: int) -> str:
    """The event as a value to filter by: a name, so that heads do not read it as a number."""
    return f"event-{wave:02d}"


def schema(domain: str) -> Json:
    """The domain's schema: the sign-up survey's answers, and a text made of them."""
    fields: list[Json] = [
        {"name": "gender", "kind": "hard", "type": "enum", "members": list(GENDERS.values())},
        {"name": "age", "kind": "hard", "type": "integer"},
        {"name": "goal", "kind": "hard", "type": "enum", "members": list(GOALS.values())},
        {"name": "event", "kind": "hard", "type": "string"},
    ]
    ratings = (*INTERESTS, *SELF_RATINGS)
    fields += [{"name": name, "kind": "hard", "type": "number"} for name in ratings]
    fields += [{"name": name, "kind": "derived", "type": "number"} for name in WANTS]
    fields.append({"name": "about", "kind": "soft", "type": "string", "priority": "high"})
    return {"domain": domain, "fields": fields}


def read_people() -> list[Person]:
    """Everyone."""
    return [_person(row) for row in _rows("speed_dating_people.csv")]


def read_meetings() -> list[Meeting]:
    """Every meeting, once a direction."""
    return [
        Meeting(_user_id(row["iid"]), _user_id(row["pid"]), int(row["wave"]), row["dec"] == "1")
        for row in _rows("speed_dating_meetings.csv")
    ]


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        yield from csv.DictReader(file)


def _user_id(iid: str) -> str:
    return f"p{int(iid):03d}"


def _person(row: dict[str, str]) -> Person:
    wants = {name: float(row[name]) for name in WANTS if row[name]}
    total = sum(wants.values())
    fields: Json = {
        "gender": GENDERS[row["gender"]],
        "goal": GOALS.get(row["goal"]),
        "event": event_name(int(row["wave"])),
        "about": _about(row, wants),
    }
    for name in ("age", *INTERESTS, *SELF_RATINGS):
        fields[name] = float(row[name]) if row[name] else None
    # Some events asked for marks, others for a hundred points to share out: shares compare.
    fields |= {name: value / total for name, value in wants.items() if total}
    known = {name: value for name, value in fields.items() if value is not None}
    return Person(_user_id(row["iid"]), int(row["wave"]), fields["gender"], known)


def _about(row: dict[str, str], wants: dict[str, float]) -> str:
    """What the person might have written: interests, goal and what they look for most."""
    fond = [n for n in INTERESTS if row[n] and float(row[n]) >= FOND]
    named = ", ".join(SPOKEN.get(name, name) for name in fond)
    text = f"I like {named}." if named else "I have few hobbies."
    if row["goal"]:
        text += f" I am here for {GOALS[row['goal']]}."
    if len(wants) == len(WANTS):
        first, second = sorted(wants, key=lambda name: -wants[name])[:2]
        text += f" I look for {WANTS[first]} and {WANTS[second]}."
    return text
