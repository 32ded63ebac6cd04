"""Heads' manifests in the artifact store."""

import json

from google.protobuf import json_format
from trine.trainer.v1.head_manifest_pb2 import HeadManifest

from services.chassis.artifacts import ArtifactStore
from services.scheduler.core.errors import ArtifactsUnavailableError
from services.scheduler.core.head import Head
from services.scheduler.core.manifest import Manifest

MANIFEST_BYTES_MAX = 4 * 1024**2


class ArtifactManifests:
    """Reads what heads say of themselves."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    async def has(self, digest: str) -> bool:
        """Says whether an artifact is there."""
        try:
            return await self._artifacts.exists(digest)
        except Exception as error:  # every store of obstore's has errors of its own
            raise ArtifactsUnavailableError(digest) from error

    async def read(self, head: Head) -> Manifest:
        """Returns a head's manifest."""
        try:
            content = await self._artifacts.get(head.manifest_digest, MANIFEST_BYTES_MAX)
        except Exception as error:  # every store of obstore's has errors of its own
            raise ArtifactsUnavailableError(head.head) from error
        manifest = json_format.Parse(content, HeadManifest(), ignore_unknown_fields=True)
        return Manifest(
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


def _kind(column: HeadManifest.Column) -> str:
    return f"{column.type} {list(column.members)}" if column.members else column.type
