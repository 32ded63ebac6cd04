"""How answers look: JSON with integer Unix times, lists in envelopes, and errors in theirs."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import grpc
from aiohttp import web

from services.chassis.errors import PublicError
from services.gateway.core.page import Item, Page

Json = dict[str, Any]
Code = grpc.StatusCode

STATUSES: dict[grpc.StatusCode, tuple[int, str]] = {
    Code.INVALID_ARGUMENT: (400, "invalid_request_error"),
    Code.OUT_OF_RANGE: (400, "invalid_request_error"),
    Code.UNAUTHENTICATED: (401, "authentication_error"),
    Code.PERMISSION_DENIED: (403, "permission_error"),
    Code.NOT_FOUND: (404, "invalid_request_error"),
    Code.ABORTED: (409, "conflict_error"),
    Code.ALREADY_EXISTS: (409, "conflict_error"),
    Code.FAILED_PRECONDITION: (409, "conflict_error"),
    Code.RESOURCE_EXHAUSTED: (429, "rate_limit_error"),
    Code.CANCELLED: (500, "server_error"),
    Code.DATA_LOSS: (500, "server_error"),
    Code.INTERNAL: (500, "server_error"),
    Code.UNKNOWN: (500, "server_error"),
    Code.UNIMPLEMENTED: (501, "server_error"),
    Code.UNAVAILABLE: (503, "server_error"),
    Code.DEADLINE_EXCEEDED: (504, "server_error"),
}
"""HTTP status and error type of each code."""

TOO_LARGE = frozenset({"FILE_TOO_LARGE", "REQUEST_TOO_LARGE"})
PARAMS = {"MODEL_NOT_FOUND": "model"}
"""Fields that another service's error does not name, or names in its own words."""
CODES = {"API_KEY_MISSING": "invalid_api_key", "API_KEY_INVALID": "invalid_api_key"}
"""Codes that clients know by another name than our reason."""
RETRY_AFTER_SECONDS = 1


def refuse(error: PublicError) -> web.Response:
    """An error in its envelope."""
    status, kind = STATUSES[error.code]
    if error.reason in TOO_LARGE:
        status, kind = 413, "invalid_request_error"
    headers = {}
    if status == 409:
        headers["x-should-retry"] = "false"  # the client would try a conflict again
    if status in (429, 503):
        headers["retry-after"] = str(error.retry_after or RETRY_AFTER_SECONDS)
    content = {
        "message": error.message,
        "type": kind,
        "param": PARAMS.get(error.reason, error.metadata.get("field")),
        "code": CODES.get(error.reason, error.reason.lower()),
    }
    return answer({"error": content}, status=status, headers=headers)


def answer(
    content: Json, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A JSON body."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def envelope(page: Page[Item], write: Callable[[Item], Json], *, ids: bool) -> Json:
    """A page in its envelope; some lists name their first and last id."""
    data = [write(item) for item in page.items]
    content: Json = {"object": "list", "data": data, "has_more": page.has_more}
    if ids:
        content["first_id"] = data[0]["id"] if data else None
        content["last_id"] = data[-1]["id"] if data else None
    return content


def unix(time: datetime.datetime | None) -> int | None:
    """Whole seconds: the clients do not read anything else."""
    return None if time is None else int(time.timestamp())
