"""A value that a text gives, and the rule that words which disagree give none."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.triplets.core.profile import Value

EVIDENCE_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Found:
    """One value and why it is believed."""

    value: Value
    confidence: float
    """From 0 to 1."""
    evidence: str
    """The words that it was read from, at most 200 characters."""


def found(value: Value, confidence: float, evidence: str) -> Found:
    """A value with its evidence cut to size."""
    words = " ".join(evidence.split())
    return Found(value, round(confidence, 2), words[:EVIDENCE_CHARACTERS_MAX])


def agreed(several: Iterable[Found]) -> Found | None:
    """The surest of findings with one and the same value; None if they differ."""
    findings = list(several)
    if not findings or any(one.value != findings[0].value for one in findings):
        return None
    return max(findings, key=lambda one: one.confidence)
