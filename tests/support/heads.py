"""Heads that were really learned, from little and quickly, and the people that they know."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from obstore.store import MemoryStore
from safetensors.numpy import load

from services.chassis.artifacts import ObjectArtifacts
from services.serving.core.candidates import FieldSpec, Layout, ProfileRows
from services.serving.core.ports import DesiredHead
from services.trainer.artifacts import ArtifactHeads
from services.trainer.core.ports import LearnedHead
from services.trainer.core.recipe import (
    DEFAULT_RECIPE,
    CrossRecipe,
    LightRecipe,
    QueryMapRecipe,
)
from services.trainer.core.watch import Watch
from services.trainer.learning.learner import TorchLearner
from tests.support.attempts import leased
from tests.support.signatures import SIGNER, VERIFIER
from tests.support.snapshots import COLUMNS, DIM, snapshot

PEOPLE = 30
CODE_VERSION = "0.1.0"
SNAPSHOT_DIGEST = "5" * 64
LAYOUT = Layout(
    version="dating.v1",
    fields=(
        *(FieldSpec(c["name"], "hard", c["type"], tuple(c["members"])) for c in COLUMNS),
        FieldSpec("city", "hard", "string", ()),
        FieldSpec("about", "soft", "string", ()),
    ),
    encoder="test",
    dim=DIM,
)
"""A domain with the columns of the snapshot."""

_RECIPE = dataclasses.replace(
    DEFAULT_RECIPE,
    light=LightRecipe(rounds=1),
    cross=CrossRecipe(epochs=1),
    query_map=QueryMapRecipe(epochs=1),
)


@cache
def learned_head() -> LearnedHead:
    """A head of a short run."""
    content = snapshot(people=PEOPLE, partners=8)
    return TorchLearner("cpu", _RECIPE).learn(content, None, None, 0, Watch("", ""))


def golden() -> dict[str, np.ndarray]:
    """What the head reads of everyone in the snapshot, and what it then gives."""
    return load(learned_head().golden)


def known_people() -> ProfileRows:
    """Everyone in the snapshot as the triplet store sends them: users u0, u1 and so on."""
    arrays = golden()
    return ProfileRows(
        user_ids=[f"u{number}" for number in range(PEOPLE)],
        numbers=np.arange(PEOPLE, dtype=np.int32),
        vectors=arrays["vectors"].astype(np.float16),
        columns=arrays["columns"].astype(np.float64),
        strings={"city": ["Oslo", "Bergen"] * (PEOPLE // 2)},
    )


def known_tallies() -> tuple[np.ndarray, np.ndarray]:
    """What outcomes say of everyone in the snapshot."""
    return np.arange(PEOPLE, dtype=np.int32), golden()["counts"].astype(np.int32)


class HeadShelf:
    """An artifact store with heads, and hands that spoil them."""

    def __init__(self) -> None:
        self._objects = MemoryStore()
        self.artifacts = ObjectArtifacts(self._objects)
        self.heads = ArtifactHeads(self.artifacts, SIGNER, VERIFIER, CODE_VERSION)

    async def store(self, number: int = 1, head: LearnedHead | None = None) -> DesiredHead:
        """Stores a head as the trainer does."""
        run = leased(head=f"u_acme.dating.2026-05-17.{number:03d}")
        digest = await self.heads.write_head(run, SNAPSHOT_DIGEST, head or learned_head())
        return DesiredHead(run.tenant, run.domain, run.head, "tenant", digest)

    async def manifest(self, desired: DesiredHead) -> dict[str, Any]:
        """A head's manifest."""
        signed = await self.artifacts.get(desired.manifest_digest)
        content: dict[str, Any] = json.loads(VERIFIER.open(signed))
        return content

    async def digests(self, desired: DesiredHead) -> dict[str, str]:
        """The digests of all that belongs to a head, by what they are."""
        manifest = await self.manifest(desired)
        parts = {p["role"].removeprefix("ROLE_"): p["file"]["digest"] for p in manifest["parts"]}
        others = {name.upper(): manifest[name]["digest"] for name in ("golden", "table")}
        return {"MANIFEST": desired.manifest_digest, **parts, **others}

    async def rewrite(
        self, desired: DesiredHead, change: Callable[[dict[str, Any]], object]
    ) -> DesiredHead:
        """Stores and signs a head's manifest again after a change to it."""
        manifest = await self.manifest(desired)
        change(manifest)
        digest = await self.artifacts.put(SIGNER.sign(json.dumps(manifest).encode()))
        return dataclasses.replace(desired, manifest_digest=digest)

    async def spoil(self, digest: str) -> None:
        """Turns one bit of an artifact around."""
        content = bytearray(await self.artifacts.get(digest))
        content[len(content) // 2] ^= 1
        await self.overwrite(digest, bytes(content))

    async def overwrite(self, digest: str, content: bytes) -> None:
        """Puts other bytes in an artifact's place."""
        await self._objects.put_async(_path(digest), content)

    async def lose(self, digest: str) -> None:
        """Removes an artifact."""
        await self._objects.delete_async(_path(digest))


def _path(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"
