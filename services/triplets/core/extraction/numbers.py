"""Numbers for the number and integer fields of a schema.

A field's name and description say what to look for: `height_cm` is a length in centimetres, spoken
of as height; `salary_min_usd` the lower bound of a sum of money. A number is taken where a word of
the field's name stands with it, or where it stands alone with the field's unit. Whatever is about
somebody else, another time, a wish (unless the field is a bound) or a negation is left alone, and
two different numbers are none.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.triplets.core.extraction.found import Found, agreed, found
from services.triplets.core.extraction.quantities import (
    MONEY,
    Quantity,
    convert,
    dimension,
    quantities,
    unit_named,
)
from services.triplets.core.extraction.text import (
    clauses,
    is_negated,
    is_of_another,
    is_past_or_possible,
    is_wish,
    sentences,
    stem,
    word_set,
)
from services.triplets.core.profile import NUMBER_MAX
from services.triplets.core.schema import Field

NAMED = 0.95
"""Confidence in a number beside a word of the field's name."""
ALONE = 0.8
"""Confidence in a number that stands alone with the field's unit."""
ROUGH = 0.7
"""Confidence in "about 180 cm" and "8+ years"."""
QUANTITIES_MAX = 8
"""Of one clause; with more it is a table."""
REMEMBERED_SCHEMAS_MAX = 256
AGES = range(13, 121)
"""What "I'm 34" may say."""

_SAID = {
    "age": "age aged old yo",
    "height": "height tall",
    "weight": "weight weigh",
    "salary": "salary salaries earn earning pay paid compensation make wage base",
    "income": "income earn earning make",
    "compensation": "compensation salary pay paid earn",
    "experience": "experience experienced",
    "distance": "distance away within radius",
    "budget": "budget spend",
    "price": "price cost asking",
    "rate": "rate charge",
    "mileage": "mileage odometer",
}
"""How people speak of what a field is named after."""
_SILENT = frozenset(
    [
        "min",
        "minimum",
        "max",
        "maximum",
        "in",
        "of",
        "the",
        "is",
        "has",
        "have",
        "number",
        "num",
        "count",
        "total",
        "per",
        "avg",
        "average",
        "predicted",
        "score",
        "value",
        "field",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "annual",
    ]
)
"""Words of names that say nothing of what is measured."""
_FILLERS = frozenset(
    [
        "i",
        "am",
        "m",
        "im",
        "a",
        "an",
        "at",
        "least",
        "most",
        "about",
        "around",
        "approximately",
        "roughly",
        "up",
        "to",
        "over",
        "under",
        "minimum",
        "max",
        "maximum",
        "min",
        "from",
        "starting",
        "looking",
        "for",
        "want",
        "would",
        "like",
        "d",
        "only",
        "just",
        "currently",
        "now",
        "per",
        "year",
        "yearly",
        "annually",
        "month",
        "hour",
        "monthly",
        "hourly",
        "k",
    ]
)
_AT_LEAST = re.compile(
    r"(?:at least|minimum(?: of)?|min\.?|(?<!no )more than|from|starting at|over|above|>=?)\W*$",
    re.IGNORECASE,
)
_AT_MOST = re.compile(
    r"(?:at most|maximum(?: of)?|max\.?|less than|no more than|up to|under|below|within|<=?)\W*$",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"(?:about|around|approximately|approx\.?|roughly|circa|~)\s*$", re.IGNORECASE)
_PERIOD = re.compile(
    r"(?:\bper\s+|\ban?\s+|/\s?)(hour|hr|h|day|week|month|mo|year|yr)\b|\b(hourly|daily|weekly|monthly)\b",
    re.IGNORECASE,
)
_PERIODS = {"hr": "hour", "h": "hour", "mo": "month", "yr": "year", "daily": "day"}
_YEARLY = frozenset({"salary", "income", "compensation", "revenue", "wage"})
_BARE_AGE = re.compile(
    r"(?:(?:hi|hey|hello|actually|well)\W+)?(?:i'?m|i am|aged?:?|age is|just turned)\s+"
    r"(\d{2,3})"
    r"(?:\s+(?:now|from .*|living .*|based .*))?|(\d{2})\s?/?\s?[mf]|[mf]\s?/?\s?(\d{2})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a field asks for."""

    field: Field
    subjects: frozenset[str]
    """Words of which one must stand with the number."""
    own: tuple[str, ...]
    """The words of the name itself, in their order."""
    unit: str
    bound: str
    """"min", "max", or nothing."""
    has_twin: bool
    """Whether the other bound is a field too."""
    period: str
    """What a sum of money is paid for."""
    rival_periods: tuple[str, ...]
    """Those of the other fields of the same dimension."""


def read_numbers(fields: Sequence[Field], text: str, schema: Sequence[Field]) -> dict[str, Found]:
    """Values of those of the fields that the text plainly gives.

    Args:
        fields: number and integer fields to look for.
        text: what is said of the person.
        schema: all fields: a unit that two of them share tells neither.
    """
    known = _wanted(tuple(schema))
    findings: dict[str, list[Found]] = {field.name: [] for field in fields}
    for sentence in sentences(text):
        for clause, before in clauses(sentence):
            amounts = list(quantities(clause))
            if len(amounts) > QUANTITIES_MAX or not (amounts or re.search(r"\d", clause)):
                continue
            if is_negated(clause) or is_past_or_possible(clause):
                continue
            for name in findings:
                findings[name] += _read_clause(known[name], clause, before, amounts)
    results = {name: agreed(several) for name, several in findings.items()}
    return {name: result for name, result in results.items() if result is not None}


@functools.lru_cache(REMEMBERED_SCHEMAS_MAX)
def _wanted(schema: tuple[Field, ...]) -> Mapping[str, Wanted]:
    """What each number field of a schema asks for."""
    numeric = [field for field in schema if field.type in {"integer", "number"}]
    return {field.name: _wanted_by(field, numeric) for field in numeric}


def _wanted_by(field: Field, numeric: Sequence[Field]) -> Wanted:
    own, unit, bound = _subject(field), _unit(field), _bound(field)
    others = [other for other in numeric if _unit(other) and unit and _subject(other) != own]
    rivals = [other for other in others if dimension(_unit(other)) == dimension(unit)]
    return Wanted(
        field=field,
        subjects=frozenset(stem(said) for word in own for said in _SAID.get(word, word).split()),
        own=own,
        unit=unit,
        bound=bound,
        has_twin=bool(bound)
        and any(_bound(f) not in {"", bound} and _subject(f) == own for f in numeric),
        period=_period(field),
        rival_periods=tuple(_period(rival) for rival in rivals),
    )


def _unit(field: Field) -> str:
    for word in reversed(field.name.split("_")):
        if word not in _SILENT and (unit := unit_named(word)):
            return unit
    told = re.search(r"\bin ([a-z]+)\b|\(([a-z]+)\)", field.description.lower())
    if told and (unit := unit_named(told[1] or told[2])):
        return unit
    return "years" if "age" in field.name.split("_") else ""


def _subject(field: Field) -> tuple[str, ...]:
    words = field.name.split("_")
    return tuple(word for word in words if word not in _SILENT and not unit_named(word))


def _bound(field: Field) -> str:
    words = field.name.split("_")
    for bound, name in (("min", "minimum"), ("max", "maximum")):
        if bound in words or name in words:
            return bound
    return ""


def _period(field: Field) -> str:
    told = _PERIOD.search(f"{field.name.replace('_', ' ')} {field.description}")
    if told:
        return _period_named(told)
    return "year" if _YEARLY & set(_subject(field)) else ""


def _period_named(match: re.Match[str]) -> str:
    word = (match[1] or match[2]).lower()
    return _PERIODS.get(word, word.removesuffix("ly"))


def _read_clause(
    wanted: Wanted, clause: str, before: str, amounts: Sequence[Quantity]
) -> list[Found]:
    if "age" in wanted.own and len(wanted.own) == 1 and not wanted.bound:
        bare = _BARE_AGE.fullmatch(clause) or _introduced_age(clause, before)
        if bare and not is_of_another(clause, "", before, wanted.subjects):
            age = int(next(group for group in bare.groups() if group))
            return [found(float(age), NAMED, clause)] if age in AGES else []
    if is_wish(clause) and not wanted.bound:
        return []
    results = []
    for amount in amounts:
        confidence = _fit(wanted, clause, before, amount, amounts)
        value = _value(wanted, clause[: amount.start], amount) if confidence else None
        if value is not None:
            rough = amount.plus or _ABOUT.search(clause[: amount.start])
            results.append(found(value, ROUGH if rough else confidence, clause))
    return results


def _introduced_age(clause: str, before: str) -> re.Match[str] | None:
    """The age in "I'm Ann, 29"."""
    introduced = re.fullmatch(r"(?:.*\W)?(?:I'm|I am|[Mm]y name is) [A-Z]\w+, ", before)
    return re.fullmatch(r"(\d{2})", clause) if introduced else None


def _fit(
    wanted: Wanted, clause: str, before: str, amount: Quantity, amounts: Sequence[Quantity]
) -> float:
    """How sure it is that a quantity is what the field asks for; 0 if it is not."""
    ahead, behind = clause[: amount.start], clause[amount.end :]
    if is_of_another(ahead, behind, before, wanted.subjects):
        return 0.0
    if not amount.unit or not wanted.unit:
        fits = not amount.unit and (not wanted.unit or _may_be_bare(wanted))
        return NAMED if fits and _stands_beside(wanted, clause, amount) else 0.0
    if dimension(amount.unit) != dimension(wanted.unit):
        return 0.0
    told = _PERIOD.search(behind) if dimension(wanted.unit) in MONEY else None
    alike = [one for one in amounts if one.unit and dimension(one.unit) == dimension(wanted.unit)]
    if len(alike) > 1 or (told and _period_named(told) != wanted.period):
        return 0.0  # of two alike the words around do not tell which
    words = word_set(clause) | (
        {"old"} if re.search(r"\by[/.]?o\b", clause, re.IGNORECASE) else set()
    )
    if wanted.subjects & words:
        return NAMED
    is_alone = word_set(f"{ahead} {behind}") <= _FILLERS
    return ALONE if is_alone and _tells_by_unit(wanted, period_told=bool(told)) else 0.0


def _tells_by_unit(wanted: Wanted, *, period_told: bool) -> bool:
    """Whether the unit is enough: no other field has it, and it is no time, as all things take."""
    if dimension(wanted.unit) not in {"length", "distance", "mass", *MONEY}:
        return False
    if period_told:
        return wanted.period not in wanted.rival_periods
    return not wanted.rival_periods


def _may_be_bare(wanted: Wanted) -> bool:
    """Whether a number without a unit may be in the field's: salaries and ages are said so."""
    return dimension(wanted.unit) in MONEY or "age" in wanted.own


def _stands_beside(wanted: Wanted, clause: str, amount: Quantity) -> bool:
    """Whether it says "bedrooms: 3" or "3 bedrooms": all words of the name, nothing behind."""
    name = r"[\s_-]+".join(re.escape(stem(word)) + "(?:e?s)?" for word in wanted.own)
    if not name:
        return False
    behind = re.fullmatch(rf"[\s-]+{name}", clause[amount.end :], re.IGNORECASE)
    ahead = re.search(rf"\b{name}\s*(?::|=|is|of|at)?\s*$", clause[: amount.start], re.IGNORECASE)
    return bool(behind) or (bool(ahead) and not clause[amount.end :].strip())


def _value(wanted: Wanted, ahead: str, amount: Quantity) -> float | None:
    """The field's value, if the quantity is as exact as the field wants it."""
    at_least, at_most = bool(_AT_LEAST.search(ahead)), bool(_AT_MOST.search(ahead))
    is_range = amount.low != amount.high
    if not wanted.bound and (is_range or at_least or at_most):
        return None
    if wanted.bound == "min" and at_most:
        return None
    if wanted.bound == "max" and (at_least or amount.plus):
        return None
    if wanted.has_twin and not (is_range or at_least or at_most or amount.plus):
        return None
    value = amount.low if wanted.bound == "min" else amount.high
    unit = amount.unit or wanted.unit
    if not unit:
        return _fitting(wanted.field, value, exact=True)
    target = wanted.unit or unit
    return _fitting(wanted.field, convert(value, unit, target), exact=unit == target)


def _fitting(field: Field, value: float, *, exact: bool) -> float | None:
    if field.type == "integer":
        if exact and value != int(value):
            return None
        value = float(round(value))
    return value if abs(value) <= NUMBER_MAX else None
