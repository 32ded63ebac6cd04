"""What a head's manifest says of how the head was made, as far as the control plane reads it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The part of a manifest that is about origin, not about files."""

    encoder: str
    dim: int
    columns: Mapping[str, str]
    """Type of each column that the head reads, by name; an enum's with its members."""
    snapshot_digest: str
    recipe: Mapping[str, object]
    code_version: str
    rule_version: str
    outcomes_count: int
    """Outcomes that the head was learned from."""
    twins_outcomes_counts: tuple[int, ...]
    """The same of each twin that was judged in its stead."""
    twins_agreement: float
