"""Heads in the artifact store: ONNX files, golden vectors, and the signed manifest that names them.

The signature covers the manifest's bytes, and the manifest has the digest of everything else.
"""

import json
from collections.abc import Mapping

import structlog
from google.protobuf import json_format
from trine.trainer.v1 import head_manifest_pb2

from services.chassis.artifacts import ArtifactError, ArtifactStore
from services.chassis.crashpoint import crashpoint
from services.chassis.signatures import Signer, Verifier
from services.chassis.tensors import check_header
from services.trainer.core.ports import (
    BaseModel,
    Column,
    HeadFiles,
    LearnedHead,
    LeasedRun,
    TwinFiles,
)
from services.trainer.core.watch import ModelFiles

MODEL_TIER = "model"
FILE_RULE_VERSION = "file-1"
"""As snapshots of files say: their triplets are as given."""

MANIFEST_BYTES_MAX = 1024**2
HEADER_BYTES_MAX = 32 * 1024**2
"""A snapshot tells its columns there, with 256 enums of 1,000 members at most."""

_log = structlog.get_logger()

Manifest = head_manifest_pb2.HeadManifest
Part = head_manifest_pb2.HeadManifest.Part


class ArtifactHeads:
    """Where heads and everything around them are kept."""

    def __init__(
        self, artifacts: ArtifactStore, signer: Signer, verifier: Verifier, code_version: str
    ) -> None:
        self._artifacts = artifacts
        self._signer = signer
        self._verifier = verifier
        self._code_version = code_version

    async def read(self, digest: str) -> bytes:
        """Returns a snapshot or a checkpoint: arrays.

        Raises:
            ArtifactError: there is none, or not with these bytes.
            HeaderError: it is something else than arrays.
        """
        content = await self._artifacts.get(digest)
        check_header(content, HEADER_BYTES_MAX)
        crashpoint("trainer.artifact.read")
        return content

    async def write(self, content: bytes) -> str:
        """Stores an artifact and returns its digest."""
        digest = await self._artifacts.put(content)
        crashpoint("trainer.artifact.written")
        return digest

    async def read_checkpoint(self, digest: str) -> bytes | None:
        """Returns a checkpoint, unless it is lost or damaged."""
        if not digest:
            return None
        try:
            return await self.read(digest)
        except ArtifactError as error:
            _log.warning("checkpoint_unusable", error=str(error))
            return None

    async def read_head(self, manifest_digest: str) -> HeadFiles:
        """Returns the files of a head."""
        manifest = await self._read_manifest(manifest_digest)
        files = {p.role: await self._artifacts.get(p.file.digest) for p in manifest.parts}
        return HeadFiles(
            query_map=files[Part.ROLE_QUERY_MAP],
            person=files[Part.ROLE_PERSON],
            table=await self._artifacts.get(manifest.table.digest),
            light=files[Part.ROLE_LIGHT],
            cross=files[Part.ROLE_CROSS],
            encoder=manifest.encoder,
            dim=manifest.dim,
            columns=tuple(
                Column(name=c.name, type=c.type, members=tuple(c.members)) for c in manifest.columns
            ),
            twins=tuple([await self._read_twin(twin) for twin in manifest.twins]),
            factors=await self._artifacts.get(manifest.factors.digest)
            if manifest.HasField("factors")
            else b"",
        )

    async def write_head(self, run: LeasedRun, snapshot_digest: str, head: LearnedHead) -> str:
        """Stores a head and its manifest and returns the manifest's digest."""
        files = head.files
        parts = (
            (Part.ROLE_QUERY_MAP, files.query_map),
            (Part.ROLE_PERSON, files.person),
            (Part.ROLE_LIGHT, files.light),
            (Part.ROLE_CROSS, files.cross),
        )
        manifest = Manifest(
            head=run.head,
            tenant=run.tenant,
            domain=run.domain,
            tier=run.tier,
            encoder=files.encoder,
            dim=files.dim,
            columns=[
                Manifest.Column(name=c.name, type=c.type, members=c.members) for c in files.columns
            ],
            parts=[Part(role=role, file=await self._put(content)) for role, content in parts],
            golden=await self._put(head.golden),
            table=await self._put(files.table),
            factors=await self._put(files.factors) if files.factors else None,
            run_id=run.run_id,
            snapshot_digest=snapshot_digest,
            parent="" if head.evaluation.incumbent_unfit else run.incumbent,
            prior=run.prior,
            recipe=json.dumps(head.recipe, sort_keys=True),
            code_version=self._code_version,
            rule_version=head.rule_version,
            outcomes_count=head.outcomes_count,
            twins=[await self._put_twin(twin) for twin in files.twins],
            twins_agreement=head.twins_agreement,
        )
        crashpoint("trainer.head.parts_written")
        digest = await self._artifacts.put(self._signer.sign(_canonical(manifest)))
        crashpoint("trainer.head.written")
        return digest

    async def _read_twin(self, twin: Manifest.Twin) -> TwinFiles:
        return TwinFiles(
            person=await self._artifacts.get(twin.person.digest),
            cross=await self._artifacts.get(twin.cross.digest),
            outcomes_count=twin.outcomes_count,
        )

    async def _put_twin(self, twin: TwinFiles) -> Manifest.Twin:
        return Manifest.Twin(
            person=await self._put(twin.person),
            cross=await self._put(twin.cross),
            outcomes_count=twin.outcomes_count,
        )

    async def read_base(self, manifest_digest: str) -> BaseModel:
        """Returns what a model goes on from."""
        manifest = await self._read_manifest(manifest_digest)
        (digest,) = [p.file.digest for p in manifest.parts if p.role == Part.ROLE_QUERY_MAP]
        return BaseModel(
            query_map=await self._artifacts.get(digest),
            encoder=manifest.encoder,
            dim=manifest.dim,
            columns=tuple(
                Column(name=c.name, type=c.type, members=tuple(c.members)) for c in manifest.columns
            ),
        )

    async def write_model(
        self,
        run: LeasedRun,
        name: str,
        snapshot_digest: str,
        files: ModelFiles,
        *,
        recipe: Mapping[str, object],
    ) -> str:
        """Stores a model and its manifest and returns the manifest's digest."""
        query_map = Part(role=Part.ROLE_QUERY_MAP, file=await self._put(files.query_map))
        manifest = Manifest(
            head=name,
            tenant=run.tenant,
            tier=MODEL_TIER,
            encoder=files.encoder,
            dim=files.dim,
            columns=[
                Manifest.Column(name=name, type=kind, members=members)
                for name, kind, members in files.columns
            ],
            parts=[query_map],
            golden=await self._put(files.golden),
            run_id=run.run_id,
            snapshot_digest=snapshot_digest,
            parent=run.incumbent,
            recipe=json.dumps(recipe, sort_keys=True),
            code_version=self._code_version,
            rule_version=FILE_RULE_VERSION,
        )
        crashpoint("trainer.model.parts_written")
        digest = await self._artifacts.put(self._signer.sign(_canonical(manifest)))
        crashpoint("trainer.model.written")
        return digest

    async def _read_manifest(self, digest: str) -> Manifest:
        content = self._verifier.open(await self._artifacts.get(digest, MANIFEST_BYTES_MAX))
        return json_format.Parse(content, Manifest(), ignore_unknown_fields=True)

    async def _put(self, content: bytes) -> Manifest.Artifact:
        digest = await self._artifacts.put(content)
        return Manifest.Artifact(digest=digest, size_bytes=len(content))


def _canonical(manifest: Manifest) -> bytes:
    content = json_format.MessageToDict(manifest, preserving_proto_field_name=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
