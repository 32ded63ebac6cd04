"""Ids that sort by the moment of their making: a page goes on after an id, there or not."""

import datetime
import re
import secrets

from services.gateway.core.errors import FieldInvalidError

_TIME_DIGITS = 12
_RANDOM_BYTES = 6


def new_id(prefix: str, now: datetime.datetime) -> str:
    """The prefix, 12 hexadecimal digits of milliseconds, and 12 random ones."""
    return (
        f"{prefix}{int(now.timestamp() * 1_000):0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"
    )


def check_after(prefix: str, after: str) -> None:
    """Refuses to go on after something that is no id. Its item may be gone meanwhile."""
    if after and not re.fullmatch(re.escape(prefix) + "[0-9a-f]{24}", after):
        raise FieldInvalidError("after", f"the id of an item of this list, such as {prefix}…")
