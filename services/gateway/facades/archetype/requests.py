"""Reading requests, where the dialect has words of its own."""

from typing import Any

from aiohttp import web

from services.gateway.core.errors import FieldInvalidError
from services.gateway.facades.requests import Json

_DIGITS_MAX = 9


def read_count(request: web.Request, name: str, default: int, count_max: int) -> int:
    """A number in the query; where the default is -1, that means all."""
    text = request.query.get(name, str(default))
    digits = text.removeprefix("-")
    is_integer = digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX
    if not is_integer or not min(default, 0) <= int(text) <= count_max:
        raise FieldInvalidError(name, f"an integer from {min(default, 0)} to {count_max:,}")
    return int(text)


def read_list(content: Json, name: str, inside: str, count_max: int) -> list[Json]:
    """A list of objects that must be there."""
    value: Any = content.get(name)
    fits = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    if not fits or not 1 <= len(value) <= count_max:
        raise FieldInvalidError(f"{inside}{name}", f"a list of 1 to {count_max} objects")
    objects: list[Json] = value
    return objects
