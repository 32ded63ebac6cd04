"""Page tokens: where a page ended, under which head, and of which request."""

import base64
import hashlib
from collections.abc import Sequence

from google.protobuf.message import Message

from services.serving.core.errors import FieldInvalidError, PageTokenStaleError
from services.serving.core.order import Place

_FINGERPRINT_BYTES = 8
_PARTS = 5
_RANK_MAX = 2**31 - 1


def fingerprint(request: Message, ignored: Sequence[str]) -> str:
    """Names a request by all that decides its answer."""
    decisive = type(request)()
    decisive.CopyFrom(request)
    for field in ignored:
        decisive.ClearField(field)
    content = decisive.SerializeToString(deterministic=True)
    return hashlib.blake2b(content, digest_size=_FINGERPRINT_BYTES).hexdigest()


def write_token(place: Place, head: str, name: str) -> str:
    """A token of the page that ended at a place; `name` is the request's fingerprint."""
    content = f"{name}\n{head}\n{place.score.hex()}\n{place.rank}\n{place.user_id}"
    return base64.urlsafe_b64encode(content.encode()).decode()


def read_token(token: str, head: str, name: str) -> Place:
    """Where the page ended.

    Raises:
        FieldInvalidError: it is no token of this request.
        PageTokenStaleError: another head ranks by now.
    """
    rule = (
        "must be the next_page_token of an answer to this request, which only limit may differ from"
    )
    try:
        parts = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("\n")
        place = Place(float.fromhex(parts[2]), parts[4], int(parts[3]))
    except (ValueError, IndexError, OverflowError):
        raise FieldInvalidError("page_token", rule) from None
    if len(parts) != _PARTS or parts[0] != name or not 0 < place.rank < _RANK_MAX:
        raise FieldInvalidError("page_token", rule)
    if parts[1] != head:
        raise PageTokenStaleError
    return place
