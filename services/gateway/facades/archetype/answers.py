"""How answers look: JSON, times as ISO text, ids of 26 digits, and lists of errors."""

import datetime
import hashlib
import json
import uuid
from typing import Any

import grpc
from aiohttp import web

from services.chassis.errors import PublicError

Json = dict[str, Any]
Code = grpc.StatusCode

STATUSES: dict[grpc.StatusCode, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 500,
    Code.DATA_LOSS: 500,
    Code.INTERNAL: 500,
    Code.UNKNOWN: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""HTTP status of each code. Never 422: the client would send the same thing again, blindly."""

OVERRULED = {"FILE_TOO_LARGE": 413, "REQUEST_TOO_LARGE": 413, "MODEL_NOT_FOUND": 400}
"""Reasons whose status is not their code's. A model is only ever a parameter."""
CODES = {"FILE_TOO_LARGE": "invalid_file_size", "MODEL_NOT_FOUND": "invalid_model_parameter"}
"""Reasons that the dialect knows by another name; others are told in lower case."""
FIELD_CODES = {
    "file_type": "invalid_file_type",
    "num_bytes": "invalid_file_size",
    "config.model": "invalid_model_parameter",
}
"""Fields whose errors have a name of their own."""
RETRY_AFTER_SECONDS = 1
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_BITS = 128
_ID_DIGITS = 26


def refuse(error: PublicError) -> web.Response:
    """An error in its envelope."""
    status = OVERRULED.get(error.reason, STATUSES[error.code])
    code = CODES.get(error.reason, error.reason.lower())
    if error.reason == "FIELD_INVALID":
        code = FIELD_CODES.get(error.metadata.get("field", ""), "invalid_parameter")
    content = {"code": code, "message": error.message, "error_uid": f"err-{uuid.uuid4()}"}
    if "rule" in error.metadata:
        content["suggestion"] = f"Give {error.metadata['rule']}."
    headers = {}
    if status in (429, 503):
        headers["retry-after"] = str(error.retry_after or RETRY_AFTER_SECONDS)
    return answer({"errors": [content]}, status=status, headers=headers)


def answer(
    content: Json | list[Json], *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A JSON body, which may be a bare list."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def iso(time: datetime.datetime) -> str:
    """UTC with microseconds and a Z."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def typed_id(prefix: str, text: str) -> str:
    """An id that a text always gets: 128 bits of its SHA-256 in Crockford's base 32."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[: _ID_BITS // 8])
    digits = (_DIGITS[number >> 5 * place & 31] for place in reversed(range(_ID_DIGITS)))
    return prefix + "".join(digits)
