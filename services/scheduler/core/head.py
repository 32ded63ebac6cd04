"""A head as the control plane knows it."""

import datetime
from dataclasses import dataclass

from services.scheduler.core.verdict import Verdict

TENANT_TIER = "tenant"
DOMAIN_TIER = "domain"
"""Learned from all tenants that share a domain: used by who has no head of their own."""
MODEL_TIER = "model"
"""Made from files: used by its name, in no domain."""

SHARED = "_shared"
"""Owner of shared domains, their runs and heads: no tenant's name begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a run exported, promoted or held."""

    tenant: str
    domain: str
    head: str
    run_id: str
    parent: str
    """Head in use when the run began; empty for the encoder alone."""
    manifest_digest: str
    verdict: Verdict
    create_time: datetime.datetime
    tier: str = TENANT_TIER
    promoted: bool = False
    deleted: bool = False
    """Nobody can use it any more; it remains others' ancestor."""


@dataclass(frozen=True, slots=True)
class LearnedHead:
    """A head and the snapshot that it learned from."""

    head: Head
    snapshot_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenger:
    """A head that is being rolled out."""

    rollout_id: str
    step: str
    """shadow or canary."""
    share: float
    head: str
    tier: str
    manifest_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedHead:
    """What is in use in a domain; head, tier and digest are empty for the encoder alone."""

    tenant: str
    domain: str
    head: str
    tier: str
    manifest_digest: str
    exploration: float = 0.0
    """Share of the matches to be explored."""
    challenger: Challenger | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A head that another goes back to."""

    head: str
    run_id: str
    parent: str
    snapshot_digest: str
    triplets_count: int
    result: str
    """Of the gate, then."""
    tier: str
    create_time: datetime.datetime
