"""Heads from the artifact store: fetched by digest, checked against the manifest, opened, tried.

Nothing of a manifest is read before its signature is right, nothing of a file before its digest is.
"""

import asyncio

import numpy as np
from google.protobuf import json_format
from safetensors.numpy import load
from trine.trainer.v1 import head_manifest_pb2

from services.chassis.artifacts import ArtifactError, ArtifactStore
from services.chassis.crashpoint import crashpoint
from services.chassis.signatures import SignatureError, Verifier
from services.chassis.tensors import HeaderError, check_header
from services.serving.core.candidates import Floats
from services.serving.core.errors import FieldInvalidError, HeadRefusedError
from services.serving.core.factors import Factors
from services.serving.core.ports import DesiredHead, DesiredModel, HeadBundle
from services.serving.graph import check_graph
from services.serving.onnx import OnnxScorers, OnnxTextMap, check_factors, check_golden
from services.serving.probe import Probe

MANIFEST_BYTES_MAX = 1024**2
PART_BYTES_MAX = 64 * 1024**2
FACTORS_BYTES_MAX = 256 * 1024**2
HEADER_BYTES_MAX = 64 * 1024
TABLE_WIDTH = 2

Manifest = head_manifest_pb2.HeadManifest
Role = head_manifest_pb2.HeadManifest.Part
ROLES = (Role.ROLE_QUERY_MAP, Role.ROLE_PERSON, Role.ROLE_LIGHT, Role.ROLE_CROSS)
_UNREADABLE = (
    ArtifactError,
    SignatureError,
    json_format.ParseError,
    UnicodeDecodeError,
    RecursionError,  # JSON that is nested without end
)


class ArtifactBundles:
    """The source of heads."""

    def __init__(self, artifacts: ArtifactStore, verifier: Verifier, probe: Probe) -> None:
        self._artifacts = artifacts
        self._verifier = verifier
        self._probe = probe

    async def load(self, desired: DesiredHead) -> HeadBundle:
        """Fetches, checks and opens a head."""
        try:
            manifest = await self._read_manifest(desired.manifest_digest)
            _check(manifest, desired)
            parts = {part.role: await self._fetch(part.file) for part in manifest.parts}
            golden, table = await self._fetch(manifest.golden), await self._fetch(manifest.table)
            factors = b""
            if manifest.HasField("factors"):
                factors = await self._fetch(manifest.factors, FACTORS_BYTES_MAX)
        except _UNREADABLE as error:
            raise HeadRefusedError(str(error)) from error
        crashpoint("serving.head.fetched")
        bundle = await asyncio.to_thread(self._open, manifest, parts, golden, table, factors)
        crashpoint("serving.head.checked")
        return bundle

    async def load_map(self, desired: DesiredModel, space: tuple[str, int]) -> OnnxTextMap:
        """Fetches, checks and opens the query map of a head or of a model, and nothing else."""
        try:
            manifest = await self._read_manifest(desired.manifest_digest)
            if (manifest.tenant, manifest.head) != (desired.owner, desired.head):
                raise HeadRefusedError(f"its manifest is that of {manifest.head}")
            maps = [part.file for part in manifest.parts if part.role == Role.ROLE_QUERY_MAP]
            if len(maps) != 1:
                raise HeadRefusedError("its manifest does not name one map")
            if (manifest.encoder, manifest.dim) != space:
                rule = f"must read texts as {space[0]} encodes them, not {manifest.encoder}"
                raise FieldInvalidError("model", rule)
            query_map, golden = await self._fetch(maps[0]), await self._fetch(manifest.golden)
        except _UNREADABLE as error:
            raise HeadRefusedError(str(error)) from error
        opened = await asyncio.to_thread(self._open_map, query_map, golden, len(manifest.columns))
        crashpoint("serving.model.checked")
        return opened

    async def _read_manifest(self, digest: str) -> Manifest:
        content = self._verifier.open(await self._artifacts.get(digest, MANIFEST_BYTES_MAX))
        return json_format.Parse(content, Manifest(), ignore_unknown_fields=True)

    async def _fetch(self, artifact: Manifest.Artifact, most: int = PART_BYTES_MAX) -> bytes:
        content = await self._artifacts.get(artifact.digest, min(artifact.size_bytes, most))
        if len(content) != artifact.size_bytes:
            raise HeadRefusedError(f"{artifact.digest} is smaller than its manifest says")
        return content

    def _open(
        self,
        manifest: Manifest,
        parts: dict[Role.Role.ValueType, bytes],
        golden: bytes,
        table: bytes,
        factors: bytes,
    ) -> HeadBundle:
        files = [parts[role] for role in ROLES]
        for file in files:
            check_graph(file)
        vectors = _arrays(golden)
        self._probe.try_head(files, golden)
        scorers = OnnxScorers(*files)
        check_golden(scorers, vectors)
        return _bundle(manifest, scorers, vectors, table, factors)

    def _open_map(self, query_map: bytes, golden: bytes, columns_count: int) -> OnnxTextMap:
        check_graph(query_map)
        vectors = _arrays(golden)
        self._probe.try_map(query_map, columns_count, golden)
        opened = OnnxTextMap(query_map, columns_count)
        opened.check(vectors)
        return opened


def _check(manifest: Manifest, desired: DesiredHead) -> None:
    found = (manifest.tenant, manifest.domain, manifest.head, manifest.tier)
    if found != (desired.tenant, desired.domain, desired.head, desired.tier):
        raise HeadRefusedError(f"its manifest is that of {manifest.head} of {manifest.tenant}")
    if sorted(part.role for part in manifest.parts) != sorted(ROLES):
        raise HeadRefusedError("its manifest does not name each part once")


def _bundle(
    manifest: Manifest,
    scorers: OnnxScorers,
    vectors: dict[str, Floats],
    table: bytes,
    factors: bytes,
) -> HeadBundle:
    read = vectors["columns"].shape[1], vectors["vectors"].shape[1]
    if read != (len(manifest.columns), manifest.dim):
        raise HeadRefusedError("reads other columns or vectors than its manifest says")
    learned = _arrays(table).get("table")
    if learned is None or learned.dtype != np.float32 or learned.shape[1:] != (TABLE_WIDTH,):
        raise HeadRefusedError("its table of people has another shape or type")
    if not np.isfinite(learned).all():
        raise HeadRefusedError("its table of people has what is no number")
    own = _open_factors(_arrays(factors)) if factors else None
    if own is not None:
        check_factors(own, vectors)
    return HeadBundle(
        tenant=manifest.tenant,
        domain=manifest.domain,
        head=manifest.head,
        tier=manifest.tier,
        encoder=manifest.encoder,
        dim=manifest.dim,
        columns=tuple((c.name, c.type, tuple(c.members)) for c in manifest.columns),
        table=learned,
        run_id=manifest.run_id,
        scorers=scorers,
        factors=own,
    )


def _open_factors(arrays: dict[str, Floats]) -> Factors:
    try:
        floor, places = arrays["recency"].astype(float).tolist()
        return Factors(
            people=arrays["people"].astype(np.int32),
            history=arrays["history"].astype(np.float32),
            candidates=arrays["candidates"].astype(np.float32),
            newcomer=arrays["newcomer"].astype(np.float32),
            content=arrays["content"].astype(np.float32),
            recency_floor=floor,
            recency_places=places,
        )
    except (KeyError, ValueError) as error:
        raise HeadRefusedError(f"its vectors of candidates cannot be read: {error}") from error


def _arrays(content: bytes) -> dict[str, Floats]:
    try:
        check_header(content, HEADER_BYTES_MAX)
        return load(content)
    except HeaderError as error:
        raise HeadRefusedError(f"its {error}") from error
    except Exception as error:  # safetensors' own kind is not exported by its numpy module
        raise HeadRefusedError(f"its arrays cannot be read: {error}") from error
