"""Booleans and dates, only where the text says them outright: "smoker: yes", "I'm a smoker"."""

import datetime
import functools
import re
from collections.abc import Sequence

from services.triplets.core.extraction.found import Found, agreed, found
from services.triplets.core.extraction.text import (
    clauses,
    is_negated,
    is_past_or_possible,
    sentences,
)
from services.triplets.core.schema import Field

PLAIN = 0.9
"""Confidence in what is said outright."""

REMEMBERED_FIELDS_MAX = 4_096

_SILENT = frozenset({"is", "has", "have", "at", "on", "date", "time", "from", "of", "the"})
_MONTHS = "january february march april may june july august september october november december"
_MONTH_NUMBERS = {name[:3]: number for number, name in enumerate(_MONTHS.split(), 1)}
_MONTH = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS.split())
_DATE = (
    r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})"
    rf"|(?P<day_first>\d{{1,2}})(?:st|nd|rd|th)? (?P<named>{_MONTH})\.?,? (?P<then>\d{{4}})"
    rf"|(?P<month_first>{_MONTH})\.? (?P<second>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<last>\d{{4}})"
)


def read_boolean(field: Field, text: str) -> Found | None:
    """True or false, where a whole clause says so."""
    patterns = _boolean_patterns(field.name)
    findings = [
        found(value, PLAIN, clause)
        for sentence in sentences(text)
        for clause, _ in clauses(sentence)
        for value, pattern in patterns
        if pattern.fullmatch(clause)
    ]
    return agreed(findings)


@functools.lru_cache(REMEMBERED_FIELDS_MAX)
def _boolean_patterns(field: str) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    name = _spoken(field)
    if not name:
        return ()
    true = rf"{name}\s*[:=]\s*(?:yes|true)|"
    false = rf"{name}\s*[:=]\s*(?:no|false)|"
    if field.startswith(("has_", "have_")):
        true += rf"i(?: have|'ve)(?: got)?(?: an?| some)? {name}"
        false += rf"i(?: have no| don'?t have| do not have)(?: any| an?)? {name}"
    else:
        am = r"i(?:'?m| am)"
        true += rf"{am}(?: an?)? {name}"
        false += rf"{am} not(?: an?)? {name}|(?:{am}(?: an?)? )?non[ -]{name}"
        if field.endswith("s") and field == name:
            # "smokes" is said as "I smoke" and "I don't smoke".
            true += rf"|i {field[:-1]}"
            false += rf"|i (?:don'?t|do not|never) {field[:-1]}"
    return (True, re.compile(true, re.IGNORECASE)), (False, re.compile(false, re.IGNORECASE))


@functools.lru_cache(REMEMBERED_FIELDS_MAX)
def _date_pattern(field: str) -> re.Pattern[str] | None:
    name = _spoken(field)
    if not name:
        return None
    pattern = rf"\b{name}(?: date)?(?:\s*:|(?: is| from| on| at| since)*)\s+(?:{_DATE})(?![\w-])"
    return re.compile(pattern, re.IGNORECASE)


def _spoken(field: str) -> str:
    """A pattern of a field's name as it is spoken."""
    words = [word for word in field.split("_") if word not in _SILENT]
    return r"[\s_-]+".join(re.escape(word) for word in words)


def read_date(field: Field, text: str) -> Found | None:
    """The first moment, in UTC, of a full date right behind the field's own words."""
    pattern = _date_pattern(field.name)
    if pattern is None:
        return None
    findings = []
    for sentence in sentences(text):
        if is_negated(sentence) or is_past_or_possible(sentence):
            continue
        for match in pattern.finditer(sentence):
            day = _day(match)
            if day is not None:
                findings.append(found(f"{day.isoformat()}T00:00:00Z", PLAIN, sentence))
    return agreed(findings)


def _day(match: re.Match[str]) -> datetime.date | None:
    named = match["named"] or match["month_first"]
    month = _MONTH_NUMBERS[named[:3].lower()] if named else int(match["month"])
    year = int(match["year"] or match["then"] or match["last"])
    day = int(match["day"] or match["day_first"] or match["second"])
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def read_plain(fields: Sequence[Field], text: str) -> dict[str, Found]:
    """Values of boolean and timestamp fields."""
    results: dict[str, Found | None] = {}
    for field in fields:
        if field.type == "boolean":
            results[field.name] = read_boolean(field, text)
        elif field.type == "timestamp":
            results[field.name] = read_date(field, text)
    return {name: result for name, result in results.items() if result is not None}
