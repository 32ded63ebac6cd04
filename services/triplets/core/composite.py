"""Values of several parts: lists of strings, and points on the globe."""

import math

from services.triplets.core.errors import FieldInvalidError

LIST_STRINGS_MAX = 100
STRING_CHARACTERS_MAX = 128
_BOUNDS = {"lat": 90.0, "lon": 180.0}


def check_list(path: str, value: object) -> list[str]:
    """Returns the value if it is a list of strings to filter by."""
    if not isinstance(value, list) or len(value) > LIST_STRINGS_MAX:
        raise FieldInvalidError(path, f"must be a list of at most {LIST_STRINGS_MAX} strings")
    for index, one in enumerate(value):
        fits = isinstance(one, str) and 1 <= len(one) <= STRING_CHARACTERS_MAX
        if not fits or "\0" in one:
            rule = f"must be a string of 1 to {STRING_CHARACTERS_MAX} characters without NUL"
            raise FieldInvalidError(f"{path}[{index}]", rule)
    return value


def check_point(path: str, value: object) -> dict[str, float]:
    """Returns the value if it is {"lat": ..., "lon": ...} in degrees."""
    if not isinstance(value, dict) or value.keys() != _BOUNDS.keys():
        raise FieldInvalidError(path, 'must be {"lat": ..., "lon": ...}')
    for name, bound in _BOUNDS.items():
        degrees = value[name]
        is_number = isinstance(degrees, int | float) and not isinstance(degrees, bool)
        if not is_number or not math.isfinite(degrees) or abs(degrees) > bound:
            raise FieldInvalidError(f"{path}.{name}", f"must be from -{bound:g} to {bound:g}")
    return {name: float(value[name]) for name in _BOUNDS}
