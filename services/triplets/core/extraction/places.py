"""Where a person lives, by an offline gazetteer: "New York, NY", "I live in Oslo".

A name that several places bear means the one where most of their people live, if at least four in
five do; that share is the confidence. "Springfield" alone is therefore nowhere.
"""

import re
from collections.abc import Iterable, Iterator

from services.triplets.core.extraction.ports import Gazetteer, Place
from services.triplets.core.extraction.text import (
    clauses,
    is_negated,
    is_of_another,
    is_past_or_possible,
    is_wish,
    sentences,
)

SHARE_MIN = 0.8
"""Of the people of all places of a name, at least so many live in the one that is meant."""
NAME_CHARACTERS_MAX = 100
_OWN = frozenset({"location", "city", "town"})

_WORD = r"(?:[A-ZÀ-ÖØ-Þ][\w'.-]*|(?<=\s)(?:of|de|del|la|do|am|on|upon)(?=\s))"
_NAME = rf"[A-ZÀ-ÖØ-Þ][\w'-]*\.?(?:[ -]{_WORD}){{0,4}}"
_WHERE = rf"(?P<place>{_NAME}(?:,\s(?!I\b){_NAME}){{0,2}})"
_LIVES = re.compile(
    r"(?:\b(?:[Ll]iv(?:e|ing)|[Bb]ased|[Ll]ocated|[Rr]esid(?:e|ing)|[Ss]ettled|[Mm]oved)\s(?:here\s)?"
    rf"(?:in|to|at|near|out of)|^(?:[Ll]ocation|[Cc]ity|[Tt]own):)\s{_WHERE}"
)
_FROM = re.compile(rf"\b(?:I'?m|I am|^)[\w\s-]{{0,40}}?\bfrom\s{_WHERE}")
_ALONE = re.compile(rf"^{_WHERE}$")


def resolve(gazetteer: Gazetteer, text: str) -> tuple[Place, float] | None:
    """The place that "Paris", "Paris, TX" or "Paris, Texas, USA" means, and how surely."""
    name, *qualifiers = [part.strip(" .") for part in text[:NAME_CHARACTERS_MAX].split(",")]
    areas = [gazetteer.area(qualifier) for qualifier in qualifiers]
    if any(area is None for area in areas):
        return None
    places = list(gazetteer.find(name))
    for area in areas:
        assert area is not None
        country, region = area
        places = [p for p in places if p.country == country and region in {"", p.region}]
    if not places:
        return None
    largest = max(places, key=lambda place: place.population)
    share = largest.population / max(1, sum(place.population for place in places))
    return (largest, share) if share >= SHARE_MIN else None


def read_place(gazetteer: Gazetteer, text: str) -> tuple[Place, float, str] | None:
    """Where the person says that they live: place, confidence and the words that say so.

    Where someone lives goes before where they are from; two places are none.
    """
    lives: list[tuple[Place, float, str]] = []
    weaker: list[tuple[Place, float, str]] = []
    for sentence in sentences(text):
        lives += _resolved(gazetteer, sentence, _named(_LIVES, sentence))
        names = [*_named(_FROM, sentence), *_qualified_alone(sentence)]
        weaker += _resolved(gazetteer, sentence, names)
    said = lives or weaker
    if len({place for place, _, _ in said}) != 1:
        return None
    return said[0]


def _named(pattern: re.Pattern[str], sentence: str) -> Iterator[str]:
    """Names that a pattern finds where the person speaks of themselves, and of now."""
    for match in pattern.finditer(sentence):
        name = match["place"]
        ahead = sentence[: match.end() - len(name)]
        before = clauses(ahead)[-1][0] if clauses(ahead) else ""
        wrong = is_negated(before) or is_past_or_possible(before) or is_wish(before)
        if wrong or re.search(r"\b(?:originally|born|grew up|family)\b", before, re.IGNORECASE):
            continue
        if not is_of_another(before, "", ahead[: len(ahead) - len(before)], _OWN):
            yield name


def _qualified_alone(sentence: str) -> Iterator[str]:
    """A sentence that is a place with its region or country: "New York, NY"."""
    match = _ALONE.match(sentence.strip(" .!"))
    if match and "," in match["place"]:
        yield match["place"]


def _resolved(
    gazetteer: Gazetteer, sentence: str, names: Iterable[str]
) -> list[tuple[Place, float, str]]:
    places = []
    for name in names:
        resolved = resolve(gazetteer, name)
        if resolved is not None:
            places.append((*resolved, sentence))
    return places
