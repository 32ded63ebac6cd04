"""What a caller may say about each stage of a match."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.serving.core.errors import FieldInvalidError

LIGHT = "light_ml"
EMBEDDING = "embedding"
CROSS = "cross_encoder"
JUDGE = "llm_judge"
STAGES = (LIGHT, EMBEDDING, CROSS)
"""In the order in which they run, after the filter."""

TOP_K_DEFAULT = {LIGHT: 2_000, EMBEDDING: 500, CROSS: 1_000}
TOP_K_MAX = 10_000


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How one stage shall run."""

    enabled: bool
    top_k: int
    """Candidates that leave the stage at most."""
    min_score: float
    """Score that they must reach, 0 to 1."""


DEFAULTS = {name: StageOptions(True, TOP_K_DEFAULT[name], 0.0) for name in STAGES}


def read_stages(stages: Mapping[str, object]) -> dict[str, StageOptions]:
    """Turns the JSON of a request into options for every stage.

    Raises:
        FieldInvalidError: names the stage and the rule.
    """
    if not stages:
        return DEFAULTS
    options = dict(DEFAULTS)
    for name, content in stages.items():
        path = f"stages.{name}"
        if name == JUDGE and content in (False, {"enabled": False}):
            continue
        if name not in options:
            raise FieldInvalidError(path, f"must be one of {', '.join(STAGES)}")
        options[name] = _read_stage(path, name, content)
    if not any(option.enabled for option in options.values()):
        raise FieldInvalidError("stages", "must leave one enabled")
    return options


def _read_stage(path: str, name: str, content: object) -> StageOptions:
    default = DEFAULTS[name]
    if isinstance(content, bool):
        return StageOptions(content, default.top_k, default.min_score)
    if not isinstance(content, dict):
        raise FieldInvalidError(path, "must be true, false or an object")
    unknown = set(content) - {"enabled", "top_k", "min_score"}
    if unknown:
        raise FieldInvalidError(
            f"{path}.{min(unknown)}", "is no option; there are enabled, top_k, min_score"
        )
    enabled = content.get("enabled", True)
    if not isinstance(enabled, bool):
        raise FieldInvalidError(f"{path}.enabled", "must be true or false")
    top_k = content.get("top_k", default.top_k)
    if not _is_number(top_k) or top_k != int(top_k) or not 1 <= top_k <= TOP_K_MAX:
        raise FieldInvalidError(f"{path}.top_k", f"must be a whole number from 1 to {TOP_K_MAX}")
    min_score = content.get("min_score", default.min_score)
    if not _is_number(min_score) or not 0 <= min_score <= 1:
        raise FieldInvalidError(f"{path}.min_score", "must be a number from 0 to 1")
    return StageOptions(enabled, int(top_k), float(min_score))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
