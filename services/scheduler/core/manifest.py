"""What a head's manifest says of how the head was made, as far as the control plane reads it."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.scheduler.core.errors import FieldInvalidError
from services.scheduler.core.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The part of a manifest that is about origin, not about files."""

    tenant: str
    domain: str
    head: str
    run_id: str
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


def check_manifest(manifest: Manifest, run: Run, head: str) -> None:
    """Checks that a manifest is that of a head which a run makes.

    Raises:
        FieldInvalidError: it is another tenant's, domain's, head's or run's.
    """
    found = (manifest.tenant, manifest.domain, manifest.head, manifest.run_id)
    if found != (run.job.tenant, run.job.domain, head, run.run_id):
        raise FieldInvalidError(
            "manifest_digest", f"must name the manifest of {head} of the run {run.run_id}"
        )
