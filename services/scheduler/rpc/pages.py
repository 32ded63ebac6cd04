"""Pages as AIP-158 asks for them."""

from services.scheduler.core.errors import FieldInvalidError

PAGE_DEFAULT = 50
PAGE_MAX = 1_000


def page_size(asked: int, default: int = PAGE_DEFAULT) -> int:
    """How many items to return: the default for 0, the maximum for more."""
    if asked < 0:
        raise FieldInvalidError("page_size", "must not be negative")
    return min(asked or default, PAGE_MAX)
