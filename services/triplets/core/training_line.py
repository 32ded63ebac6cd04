"""One line of a training file: JSON in one of three forms, told apart by its keys.

    {"anchor": …, "positive": …, "negative": …, "weight": 1.0}
    {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}
    {"messages": […]}

The first is Trine's own, the others are those of OpenAI's fine-tuning; "preferred_completion" and
"non_preferred_completion" are older names. What is said of them here is pure: lines in, values out.
"""

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from services.triplets.core.errors import FieldInvalidError
from services.triplets.core.profile import check_user_id

TEXT_CHARACTERS_MAX = 100_000
"""The encoder reads the first 256 tokens of a text."""
WEIGHT_MAX = 1_000.0
_ROLES = ("anchor", "positive", "negative")
_PREFERENCE_NAMES = {
    "preferred_output": ("preferred_output", "preferred_completion"),
    "non_preferred_output": ("non_preferred_output", "non_preferred_completion"),
}
_PREFERENCE_KEYS = {"input", *(name for names in _PREFERENCE_NAMES.values() for name in names)}


class LineError(Exception):
    """What is wrong with a line, as the end of "line 3: …"."""


class Form(enum.StrEnum):
    """What a file's lines look like."""

    TRIPLET = "triplet"
    PREFERENCE = "preference"
    CHAT = "chat"


@dataclass(frozen=True, slots=True)
class Person:
    """A person whose vector is asked of their domain."""

    domain: str
    user_id: str


Item = str | Person | tuple[float, ...]
"""A text, a person, or a vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An anchor, what it prefers, and to what; nothing in particular for a chat."""

    form: Form
    anchor: Item
    positive: Item
    negative: Item | None
    weight: float = 1.0


def parse_line(text: bytes, dim: int) -> Line:
    """Reads a line; vectors must have `dim` numbers.

    Raises:
        LineError: says what is wrong.
    """
    content = _read_json(text)
    if not isinstance(content, dict):
        raise LineError("must be a JSON object")
    if content.keys() & {*_ROLES}:
        return _triplet(content, dim)
    if content.keys() & _PREFERENCE_KEYS:
        return _preference(content)
    if "messages" in content:
        return _chat(content)
    raise LineError(
        "is of none of the three forms: anchor, positive and negative; input, preferred_output "
        "and non_preferred_output; messages"
    )


def _read_json(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise LineError("is not UTF-8") from None
    except RecursionError:
        raise LineError("is nested too deeply") from None
    except ValueError as error:
        place = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LineError(f"is not JSON{place}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise LineError(f"has {name}, which is no JSON")


def _triplet(content: Mapping[str, Any], dim: int) -> Line:
    unknown = sorted(content.keys() - {*_ROLES, "weight"})
    if unknown:
        raise LineError(f"{unknown[0]!r} is no key of a triplet")
    anchor, positive, negative = (_item(role, content, dim) for role in _ROLES)
    _check_different("positive", positive, "negative", negative)
    weight = content.get("weight", 1.0)
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 < weight <= WEIGHT_MAX:
        raise LineError(f"weight must be a number above 0 and at most {WEIGHT_MAX:g}")
    return Line(
        form=Form.TRIPLET,
        anchor=anchor,
        positive=positive,
        negative=negative,
        weight=float(weight),
    )


def _item(role: str, content: Mapping[str, Any], dim: int) -> Item:
    if role not in content:
        raise LineError(f"{role} is missing")
    value = content[role]
    if isinstance(value, str):
        return _text(role, value)
    if isinstance(value, dict):
        return _person(role, value)
    if isinstance(value, list):
        return _vector(role, value, dim)
    rule = "must be a text, a list of numbers, or an object with user_id and domain"
    raise LineError(f"{role} {rule}")


def _person(role: str, value: Mapping[str, Any]) -> Person:
    for key in ("user_id", "domain"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise LineError(f"{role}.{key} must be a text")
    unknown = sorted(value.keys() - {"user_id", "domain"})
    if unknown:
        raise LineError(f"{role}.{unknown[0]} is no key of a person")
    try:
        check_user_id(f"{role}.user_id", value["user_id"])
    except FieldInvalidError as error:
        raise LineError(f"{role}.user_id {error.metadata['rule']}") from None
    return Person(value["domain"], value["user_id"])


def _vector(role: str, value: list[Any], dim: int) -> tuple[float, ...]:
    if len(value) != dim:
        raise LineError(f"{role} must have {dim} numbers, not {len(value)}")
    try:
        numbers = tuple(float(number) for number in value if not isinstance(number, str | bool))
    except (TypeError, OverflowError):
        numbers = ()
    if len(numbers) != dim or not all(map(math.isfinite, numbers)):
        raise LineError(f"{role} must be a list of finite numbers")
    length = math.hypot(*numbers)
    if not 0 < length < math.inf:
        raise LineError(f"{role} must not be zero or beyond all measure")
    return tuple(number / length for number in numbers)


def _preference(content: Mapping[str, Any]) -> Line:
    if "input" not in content:
        raise LineError("input is missing")
    given = content["input"]
    messages = given.get("messages") if isinstance(given, dict) else given
    anchor = _last_of("input.messages", messages, "user")
    outputs = []
    for name, names in _PREFERENCE_NAMES.items():
        found = [known for known in names if known in content]
        if not found:
            raise LineError(f"{name} is missing")
        outputs.append(_last_of(found[0], content[found[0]], "assistant"))
    _check_different("preferred_output", outputs[0], "non_preferred_output", outputs[1])
    return Line(form=Form.PREFERENCE, anchor=anchor, positive=outputs[0], negative=outputs[1])


def _chat(content: Mapping[str, Any]) -> Line:
    messages = content["messages"]
    if not isinstance(messages, list) or not messages:
        raise LineError("messages must be a list of messages")
    answers = [
        index
        for index, message in enumerate(messages)
        if isinstance(message, dict)
        and message.get("role") == "assistant"
        and message.get("weight", 1) != 0
    ]
    if not answers:
        raise LineError("messages must have an answer of the assistant")
    last = answers[-1]
    positive = _last_of("messages", messages[last : last + 1], "assistant")
    anchor = _last_of("messages", messages[:last], "user")
    return Line(form=Form.CHAT, anchor=anchor, positive=positive, negative=None)


def _last_of(field: str, messages: Any, role: str) -> str:
    """The text of the last message of a role; a text alone stands for one message."""
    if isinstance(messages, str):
        return _text(field, messages)
    if not isinstance(messages, list):
        raise LineError(f"{field} must be a list of messages")
    for message in reversed(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise LineError(f"{field} must be messages with a role")
        if message["role"] == role:
            return _text(f"{field}: the content of the {role}", _content(field, message))
    raise LineError(f"{field} must have a message of the {role}")


def _content(field: str, message: Mapping[str, Any]) -> str:
    """The text of a message: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return "\n".join(map(str, parts))
    raise LineError(f"{field} must have texts as content")


def _text(field: str, value: str) -> str:
    text = value.strip()
    if not text:
        raise LineError(f"{field} must not be empty")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise LineError(f"{field} must have at most {TEXT_CHARACTERS_MAX} characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise LineError(f"{field} has half a character (a lone surrogate)")
    return text


def _check_different(first: str, left: Item, second: str, right: Item) -> None:
    if left == right:
        raise LineError(f"{first} and {second} must differ")
