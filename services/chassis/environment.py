"""Reads a service's configuration from the environment: one dataclass, one variable a field."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")

PREFIX = "TRINE_"


class ConfigurationError(Exception):
    """A variable is missing or cannot be read."""


def read_environment(kind: type[Config], environ: Mapping[str, str] = os.environ) -> Config:
    """Builds a config from TRINE_<FIELD> variables; fields without a default are required.

    Raises:
        ConfigurationError: names the variable, never its value (it may be a secret).
    """
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # Config is a dataclass
        variable = PREFIX + field.name.upper()
        text = environ.get(variable)
        if text is not None:
            values[field.name] = _convert(variable, text, hints[field.name])
        elif field.default is dataclasses.MISSING:
            raise ConfigurationError(f"{variable} is not set")
    return kind(**values)


def _convert(variable: str, text: str, kind: type) -> Any:
    if kind not in (str, int, float):
        raise ConfigurationError(f"{variable}: {kind.__name__} cannot be configured")
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(f"{variable} is not of type {kind.__name__}") from None
