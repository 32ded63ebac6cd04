"""What outcomes are called: the labels that are built in, and those that a tenant registers."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.triplets.core.errors import FieldInvalidError, LabelInUseError
from services.triplets.core.outcome import LEVELS, RETRACTED, RETRACTED_LEVEL, WEIGHT_MAX

LABELS_MAX = 32
"""A domain's own labels: an error that lists them must fit into headers."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name for outcomes of one level."""

    name: str
    level: int
    weight: float = 1.0
    """Of an outcome that comes without one."""
    used: bool = False
    """Whether an outcome was ever recorded under it."""


BUILT_IN = {
    name: Label(name=name, level=level)
    for name, level in {**LEVELS, RETRACTED: RETRACTED_LEVEL}.items()
}
LEVEL_NAMES = {label.level: label.name for label in BUILT_IN.values()}


def read_level(path: str, name: str) -> int:
    """The level of a built-in outcome."""
    if name not in LEVELS:
        raise FieldInvalidError(path, f"must be one of {', '.join(reversed(LEVELS))}")
    return LEVELS[name]


def replace_labels(old: Mapping[str, Label], new: Sequence[Label]) -> dict[str, Label]:
    """Returns what takes the place of a domain's labels.

    An outcome keeps the level and weight that it was recorded with. So that a label means one thing
    for ever, one that outcomes have used keeps its level and stays; its weight may change for
    outcomes to come.

    Raises:
        FieldInvalidError: a new label breaks a rule.
        LabelInUseError: outcomes have used a label that would change its level or go.
    """
    if len(new) > LABELS_MAX:
        raise FieldInvalidError("labels", f"must be at most {LABELS_MAX}")
    replaced: dict[str, Label] = {}
    for index, label in enumerate(new):
        path = f"labels[{index}]"
        _check_label(path, label)
        if label.name in replaced:
            raise FieldInvalidError(f"{path}.name", f"{label.name!r} stands there twice")
        before = old.get(label.name)
        used = before is not None and before.used
        if before is not None and used and before.level != label.level:
            rule = f"has outcomes: its level is {LEVEL_NAMES[before.level]} and stays so"
            raise LabelInUseError(f"{path}.level", label.name, rule)
        replaced[label.name] = dataclasses.replace(label, used=used)
    for name, label in old.items():
        if label.used and name not in replaced:
            raise LabelInUseError("labels", name, "has outcomes and must stay")
    return replaced


def _check_label(path: str, label: Label) -> None:
    if not _NAME.fullmatch(label.name):
        rule = 'must be 1 to 32 characters of a-z, 0-9 and "_", starting with a letter'
        raise FieldInvalidError(f"{path}.name", rule)
    if label.name in BUILT_IN:
        raise FieldInvalidError(f"{path}.name", "is built in and cannot be redefined")
    if not 0 < label.weight <= WEIGHT_MAX:  # NaN fails too
        raise FieldInvalidError(f"{path}.weight", f"must be above 0 and at most {WEIGHT_MAX:g}")
