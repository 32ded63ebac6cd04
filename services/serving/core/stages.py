"""What a caller may say about each stage of a match."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.serving.core.errors import FieldInvalidError

FILTER = "sql_filter"
LIGHT = "light_ml"
EMBEDDING = "embedding"
CROSS = "cross_encoder"
JUDGE = "llm_judge"
STAGES = (LIGHT, EMBEDDING, CROSS)
"""Those of a head, in the order in which they run: after the filter, before the judge."""

FORWARD = "_forward"
BACK = "_back"
"""Added to a stage's name: its score of one way in a reciprocal domain."""

TOP_K_MAX = 10_000
JUDGED_MAX = 50


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How one stage shall run."""

    enabled: bool
    top_k: int
    """Candidates that leave the stage at most."""
    min_score: float = 0.0
    """Score that they must reach, 0 to 1."""


DEFAULTS = {
    LIGHT: StageOptions(True, 2_000),
    EMBEDDING: StageOptions(True, 500),
    CROSS: StageOptions(True, 1_000),
    JUDGE: StageOptions(False, 10),
}


def read_stages(
    stages: Mapping[str, object], *, judge_configured: bool = False
) -> dict[str, StageOptions]:
    """Turns the JSON of a request into options for every stage.

    Raises:
        FieldInvalidError: names the stage and the rule.
    """
    if not stages:
        return DEFAULTS
    options = dict(DEFAULTS)
    for name, content in stages.items():
        path = f"stages.{name}"
        if name == FILTER:
            _check_filter(path, content)
        elif name in DEFAULTS:
            options[name] = _read_stage(path, name, content)
        else:
            raise FieldInvalidError(path, f"must be one of {', '.join((FILTER, *DEFAULTS))}")
    if not any(options[name].enabled for name in STAGES):
        raise FieldInvalidError("stages", f"must leave one of {', '.join(STAGES)} enabled")
    if options[JUDGE].enabled and not judge_configured:
        raise FieldInvalidError(f"stages.{JUDGE}", "is not configured in this mesh")
    return options


def _check_filter(path: str, content: object) -> None:
    """The filter has no score to cut by, and who does not meet the filters is no match."""
    if content is not True and content != {"enabled": True}:
        raise FieldInvalidError(path, "always runs: it may be true, no more")


def _read_stage(path: str, name: str, content: object) -> StageOptions:
    default = DEFAULTS[name]
    if isinstance(content, bool):
        return dataclasses.replace(default, enabled=content)
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
    top_k, most = content.get("top_k", default.top_k), JUDGED_MAX if name == JUDGE else TOP_K_MAX
    if not _is_number(top_k) or top_k != int(top_k) or not 1 <= top_k <= most:
        raise FieldInvalidError(f"{path}.top_k", f"must be a whole number from 1 to {most}")
    min_score = content.get("min_score", default.min_score)
    if not _is_number(min_score) or not 0 <= min_score <= 1:
        raise FieldInvalidError(f"{path}.min_score", "must be a number from 0 to 1")
    return StageOptions(enabled, int(top_k), float(min_score))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
