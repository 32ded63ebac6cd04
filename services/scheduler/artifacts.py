"""Heads' manifests in the artifact store; what is not signed is not read."""

import json

from google.protobuf import json_format
from trine.trainer.v1.head_manifest_pb2 import HeadManifest

from services.chassis.artifacts import ArtifactError, ArtifactStore, open_artifacts
from services.chassis.signatures import SignatureError, Verifier
from services.scheduler.core.errors import ArtifactsUnavailableError, FieldInvalidError
from services.scheduler.core.head import Head
from services.scheduler.core.manifest import Manifest

MANIFEST_BYTES_MAX = 1024**2
_UNREADABLE = (json_format.ParseError, RecursionError, ValueError)
"""What JSON may be instead of a manifest: no message, nested without end, no JSON inside."""


class ArtifactManifests:
    """Reads what heads say of themselves."""

    def __init__(self, artifacts: ArtifactStore, verifier: Verifier) -> None:
        self._artifacts = artifacts
        self._verifier = verifier

    async def has(self, digest: str) -> bool:
        """Says whether an artifact is there."""
        try:
            return await self._artifacts.exists(digest)
        except Exception as error:  # every store of obstore's has errors of its own
            raise ArtifactsUnavailableError(digest) from error

    async def read(self, head: Head) -> Manifest:
        """Returns a head's manifest."""
        try:
            return await self._read(head.manifest_digest)
        except Exception as error:  # every store of obstore's has errors of its own
            raise ArtifactsUnavailableError(head.head) from error

    async def read_told(self, digest: str) -> Manifest:
        """Returns the manifest that a trainer tells of."""
        try:
            return await self._read(digest)
        except (ArtifactError, SignatureError) as error:
            raise FieldInvalidError("manifest_digest", f"{digest}: {error}") from error
        except _UNREADABLE as error:
            raise FieldInvalidError("manifest_digest", "must name a head's manifest") from error
        except Exception as error:  # every store of obstore's has errors of its own
            raise ArtifactsUnavailableError(digest) from error

    async def _read(self, digest: str) -> Manifest:
        signed = await self._artifacts.get(digest, MANIFEST_BYTES_MAX)
        content = self._verifier.open(signed)
        manifest = json_format.Parse(content, HeadManifest(), ignore_unknown_fields=True)
        return Manifest(
            tenant=manifest.tenant,
            domain=manifest.domain,
            head=manifest.head,
            run_id=manifest.run_id,
            encoder=manifest.encoder,
            dim=manifest.dim,
            columns={column.name: _kind(column) for column in manifest.columns},
            snapshot_digest=manifest.snapshot_digest,
            recipe=json.loads(manifest.recipe),
            code_version=manifest.code_version,
            rule_version=manifest.rule_version,
            outcomes_count=manifest.outcomes_count,
            twins_outcomes_counts=tuple(twin.outcomes_count for twin in manifest.twins),
            twins_agreement=manifest.twins_agreement,
        )


def open_manifests(artifacts_url: str, public_keys: str) -> ArtifactManifests:
    """The manifests in a store that the holders of some keys have signed."""
    return ArtifactManifests(open_artifacts(artifacts_url), Verifier(public_keys))


def _kind(column: HeadManifest.Column) -> str:
    return f"{column.type} {list(column.members)}" if column.members else column.type
