"""Reading requests: JSON bodies field by field, queries, and multipart forms as streams."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import BodyPartReader, web

from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.page import check_limit

FORM_FIELD_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 32
CHUNK_BYTES = 256 * 1024
_INTEGER_DIGITS_MAX = 12

Json = dict[str, Any]
Result = TypeVar("Result")
Receive = Callable[[AsyncIterator[bytes]], Awaitable[tuple[str, int]]]
"""Keeps a stream; returns its digest and bytes."""


async def read_body(request: web.Request, known: Collection[str]) -> Json:
    """The JSON object that a request carries; none stands for an empty one.

    Raises:
        FieldInvalidError: it is no object, or has a field that the method does not know.
    """
    text = await request.read()
    content = read_json(text, "body") if text.strip() else {}
    if not isinstance(content, dict):
        raise FieldInvalidError("body", "a JSON object")
    refuse_unknown(content, known)
    return content


def read_json(text: str | bytes, name: str) -> Any:
    """What a text in JSON says.

    Raises:
        FieldInvalidError: it is no JSON, or holds what cannot be kept as such.
    """
    try:
        content = json.loads(text, parse_constant=_no_number)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise FieldInvalidError(name, "JSON") from None
    return content


def _no_number(name: str) -> None:
    """JSON has no NaN and no infinities."""
    raise ValueError(name)


def refuse_unknown(content: Json, known: Collection[str], inside: str = "") -> None:
    """Refuses fields that are probably misspelt: they would be lost in silence."""
    for name in content:
        if name not in known:
            raise FieldInvalidError(f"{inside}{name}", f"one of {', '.join(sorted(known))}")


def read_text(content: Json, name: str, inside: str = "") -> str:
    """A string that must be there."""
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise FieldInvalidError(f"{inside}{name}", "a string, not empty")
    return value


def read_optional_text(content: Json, name: str) -> str | None:
    """A string, if there is one."""
    return None if content.get(name) is None else read_text(content, name)


def read_integer(content: Json, name: str) -> int:
    """An integer that must be there."""
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldInvalidError(name, "an integer")
    return value


def read_object(content: Json, name: str) -> Json | None:
    """An object, if there is one."""
    value = content.get(name)
    if value is not None and not isinstance(value, dict):
        raise FieldInvalidError(name, "an object")
    return value


def read_texts(content: Json, name: str, inside: str = "") -> list[str]:
    """A list of strings that must be there."""
    value = content.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise FieldInvalidError(f"{inside}{name}", "a list of strings")
    return value


def read_limit(request: web.Request, default: int, limit_max: int) -> int:
    """How many items a page shall have."""
    text = request.query.get("limit")
    limit = default if text is None else _integer(text, "limit")
    check_limit(limit, limit_max)
    return limit


def read_choice(request: web.Request, name: str, choices: tuple[str, ...], default: str) -> str:
    """One of a few words in the query."""
    value = request.query.get(name, default)
    if value not in choices:
        raise FieldInvalidError(name, f"one of {', '.join(choices)}")
    return value


def read_life(content: Json, name: str = "expires_after") -> int | None:
    """Seconds of {"anchor": "created_at", "seconds": …}; None if nothing expires."""
    value = read_object(content, name)
    if value is None:
        return None
    refuse_unknown(value, ("anchor", "seconds"), f"{name}.")
    return _life(value.get("anchor"), value.get("seconds"), f"{name}[anchor]", f"{name}[seconds]")


def read_form_life(fields: dict[str, str]) -> int | None:
    """The same, of a form's two fields."""
    anchor, seconds = (f"expires_after[{name}]" for name in ("anchor", "seconds"))
    if anchor not in fields and seconds not in fields:
        return None
    value = _integer(fields[seconds], seconds) if seconds in fields else None
    return _life(fields.get(anchor), value, anchor, seconds)


@dataclass
class Form:
    """A multipart form whose one file has been kept while it came."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    media_type: str = ""
    content: tuple[str, int] | None = None


async def read_form(request: web.Request, file_field: str, receive: Receive) -> Form:
    """Reads a form part by part; the part of that name goes to `receive` chunk by chunk.

    Without a name it is the first part that has a file's.

    Raises:
        FieldInvalidError: no form, no such part, or fields that are too many or too long.
    """
    if not request.content_type.startswith("multipart/"):
        raise _no_form()
    form, reader = Form(), await _read(request.multipart())
    while part := await _read(reader.next()):
        if not isinstance(part, BodyPartReader) or not part.name:
            raise FieldInvalidError("body", "parts with a name each")
        wanted = part.name == file_field if file_field else bool(part.filename)
        if wanted and form.content is None:
            form.filename = part.filename or file_field
            form.media_type = part.headers.get("content-type", "")
            form.content = await receive(_chunks(part))
        else:
            await _read_field(part, form)
    if form.content is None:
        raise FieldInvalidError(file_field or "file", "a part of the form with the file's bytes")
    return form


async def _read(reading: Awaitable[Result]) -> Result:
    """What the parser gives; it tells malformed forms by plain errors."""
    try:
        return await reading
    except (AssertionError, ValueError) as error:
        raise _no_form() from error


def _no_form() -> FieldInvalidError:
    return FieldInvalidError("body", "a form of the type multipart/form-data")


async def _read_field(part: BodyPartReader, form: Form) -> None:
    assert part.name is not None
    if part.name in form.fields or len(form.fields) >= FORM_FIELDS_MAX:
        raise FieldInvalidError(part.name, f"once, and at most {FORM_FIELDS_MAX} fields in all")
    content = bytearray()
    async for chunk in _chunks(part):
        content += chunk
        if len(content) > FORM_FIELD_BYTES_MAX:
            raise FieldInvalidError(part.name, f"at most {FORM_FIELD_BYTES_MAX} bytes")
    form.fields[part.name] = content.decode(errors="replace")


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await _read(part.read_chunk(CHUNK_BYTES)):
        yield bytes(chunk)


def _integer(text: str, name: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _INTEGER_DIGITS_MAX:
        raise FieldInvalidError(name, "an integer")
    return int(text)


def _life(anchor: Any, seconds: Any, anchor_name: str, seconds_name: str) -> int:
    if anchor != "created_at":
        raise FieldInvalidError(anchor_name, "created_at")
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise FieldInvalidError(seconds_name, "an integer")
    return seconds
