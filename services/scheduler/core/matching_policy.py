"""How a domain's matches are made beside the head that ranks them: what its tenant chose."""

from dataclasses import dataclass

from services.scheduler.core.errors import FieldInvalidError

EXPLORATION_MIN = 0.001
"""Fewer explored matches would never tell anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingPolicy:
    """What a tenant chose for a domain."""

    exploration: float = 0.0
    """Share of the matches whose first page is shown in a random order."""


def check_policy(policy: MatchingPolicy) -> None:
    """Refuses a share out of bounds.

    Raises:
        FieldInvalidError: names it.
    """
    share = policy.exploration
    if share != 0 and not EXPLORATION_MIN <= share <= 1:  # NaN is refused too
        raise FieldInvalidError("exploration", f"must be 0, or {EXPLORATION_MIN} to 1")
