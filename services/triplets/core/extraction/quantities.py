"""Numbers with their units, as people write them: 180 cm, 5'11", $120k, 8+ years, 25-35.

A grammar of our own: libraries of units convert what has been found, and finding is the work; the
conversions that people need of each other are this table.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Unit(NamedTuple):
    """What is measured, and how much of its base unit this is."""

    dimension: str
    factor: float


_NAMES: dict[str, tuple[Unit, str]] = {
    "mm": (Unit("length", 0.001), "mm|millimet(?:er|re)s?"),
    "cm": (Unit("length", 0.01), "cms?|centimet(?:er|re)s?"),
    "m": (Unit("length", 1), "(?-i:m)|met(?:er|re)s?"),
    # Nobody is 180 km tall: what is travelled is measured apart from what is built.
    "km": (Unit("distance", 1_000), "kms?|kilomet(?:er|re)s?"),
    "inches": (Unit("length", 0.0254), "inch|inches"),
    "feet": (Unit("length", 0.3048), "ft|foot|feet"),
    "miles": (Unit("distance", 1_609.344), "mi|miles?"),
    "kg": (Unit("mass", 1), "kgs?|kilos?|kilograms?"),
    "lb": (Unit("mass", 0.45359237), "lbs?"),
    "years": (Unit("months", 12), "years?|yrs?|y[/.]?o"),
    "months": (Unit("months", 1), "months?|mos?"),
    "weeks": (Unit("hours", 168), "weeks?|wks?"),
    "days": (Unit("hours", 24), "days?"),
    "hours": (Unit("hours", 1), "hours?|hrs?|h"),
    "minutes": (Unit("hours", 1 / 60), "minutes?|mins?"),
    "usd": (Unit("usd", 1), r"usd|dollars?|bucks"),
    "eur": (Unit("eur", 1), "eur|euros?"),
    "gbp": (Unit("gbp", 1), "gbp|pounds sterling"),
    "inr": (Unit("inr", 1), "inr|rupees?"),
    "chf": (Unit("chf", 1), "chf|swiss francs"),
    "cad": (Unit("cad", 1), "cad"),
    "aud": (Unit("aud", 1), "aud"),
    "sqm": (Unit("area", 1), "sqm|m2|m²|square met(?:er|re)s?"),
    "sqft": (Unit("area", 0.09290304), "sqft|sq ft|square feet"),
    "percent": (Unit("percent", 1), "%|percent"),
    # Mass or money, nobody knows: a unit that fits no field.
    "pounds": (Unit("pounds", 1), "pounds?"),
}
_SYMBOLS = {"$": "usd", "US$": "usd", "C$": "cad", "A$": "aud", "€": "eur", "£": "gbp", "₹": "inr"}
MONEY = frozenset({"usd", "eur", "gbp", "inr", "chf", "cad", "aud"})

_TEENS = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: number for number, word in enumerate([*_ONES[1:], *_TEENS], 2)}
_WORDS |= {word: 10 * number for number, word in enumerate(_TENS, 2)}
_WORDS |= {
    f"{tens}{joint}{one}": 10 * t + o
    for t, tens in enumerate(_TENS, 2)
    for o, one in enumerate(_ONES, 1)
    for joint in ("-", " ")
}

_DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_NUMBER = f"{_DIGITS}|" + "|".join(sorted(_WORDS, key=len, reverse=True))
_UNIT = "|".join(f"(?P<{name}>{pattern})" for name, (_, pattern) in _NAMES.items())
_SYMBOL = r"US\$|C\$|A\$|[$€£₹]"
_QUANTITY = re.compile(
    rf"(?<![\w.,'/-])(?P<symbol>{_SYMBOL})?\s?"
    rf"(?:(?P<low>{_DIGITS})\s?(?P<low_factor>k)?\s?(?:-|to|and)\s?(?:{_SYMBOL})?)?"
    rf"(?P<number>{_NUMBER})\s?(?P<factor>k(?![a-z])|thousand|million)?(?![\w.]\d)(?P<plus>\+)?"
    rf"(?:[\s-]?(?:{_UNIT})(?![\w²]))?(?![\w%])",
    re.IGNORECASE,
)
_FEET = re.compile(
    r"(?<![\w.])(?P<feet>[3-8])\s?(?:'|ft\.?|feet|foot)\s?"
    r"(?P<inches>\d{1,2})?\s?(?:\"|''|in(?:ches)?\b)?(?!\w)",
    re.IGNORECASE,
)
_FACTORS = {"k": 1_000, "thousand": 1_000, "million": 1_000_000}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or a range in a text."""

    low: float
    high: float
    unit: str
    """A name of the table; empty for a bare number."""
    plus: bool
    """"8+"."""
    start: int
    end: int


@functools.lru_cache(4_096)
def unit_named(name: str) -> str:
    """The unit that a word of a field's name or description stands for, or nothing."""
    for unit, (_, pattern) in _NAMES.items():
        if name == unit or re.fullmatch(pattern, name, re.IGNORECASE):
            return unit
    return ""


def dimension(unit: str) -> str:
    """What a unit measures."""
    return _NAMES[unit][0].dimension


def convert(value: float, unit: str, target: str) -> float:
    """The value in another unit of the same dimension; as it stands in its own."""
    if unit == target:
        return value
    return round(value * _NAMES[unit][0].factor / _NAMES[target][0].factor, 2)


def quantities(words: str) -> Iterator[Quantity]:
    """All quantities of a clause, heights in feet and inches first."""
    taken: list[range] = []
    for match in _FEET.finditer(words):
        inches = int(match["inches"] or 0)
        if inches < 12:
            value = 12.0 * int(match["feet"]) + inches
            taken.append(range(*match.span()))
            yield Quantity(value, value, "inches", plus=False, start=match.start(), end=match.end())
    for match in _QUANTITY.finditer(words):
        if any(match.start() < span.stop and span.start < match.end() for span in taken):
            continue
        yield _read(match)


def _read(match: re.Match[str]) -> Quantity:
    factor = _FACTORS.get((match["factor"] or "").lower(), 1)
    high = _number(match["number"]) * factor
    low = high
    if match["low"]:
        # "$120-150k" is from 120k on.
        low = _number(match["low"]) * (1_000 if match["low_factor"] else factor)
    named = next((name for name in _NAMES if match[name]), "")
    symbol = _SYMBOLS.get((match["symbol"] or "").upper(), "")
    if symbol and named and symbol != named:
        # "$120k CAD" is told by its name; "$5 per 3 days" is not one quantity.
        symbol = named if {symbol, named} <= MONEY else symbol
    return Quantity(
        low, high, symbol or named, bool(match["plus"]), start=match.start(), end=match.end()
    )


def _number(text: str) -> float:
    word = text.lower()
    return float(_WORDS[word]) if word in _WORDS else float(text.replace(",", ""))
