"""Snapshots and heads in the artifact store: what is read is what was written, or nothing is."""

import dataclasses
import json

import numpy as np
import pytest

from services.chassis.artifacts import ArtifactError
from services.trainer.artifacts import ArtifactHeads
from services.trainer.learning.snapshot import read_snapshot
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.ports import DomainArrays
from services.triplets.core.schema import Field, Schema
from services.triplets.core.triplet import RULE_VERSION, Triplets, form_triplets, hash_ids
from tests.support.attempts import leased
from tests.support.heads import CODE_VERSION, SNAPSHOT_DIGEST, HeadShelf, learned_head
from tests.support.signatures import SIGNER, VERIFIER

USERS = ["ada", "bob", "cyd", "dot"]
SCHEMA = Schema(
    domain="dating",
    number=1,
    fields=(
        Field(name="age", kind="hard", type="integer"),
        Field(name="city", kind="hard", type="string"),
        Field(name="goal", kind="hard", type="enum", members=("fun", "love")),
    ),
    encoder="test",
    dim=2,
)


@pytest.fixture
def shelf() -> HeadShelf:
    return HeadShelf()


def domain() -> tuple[DomainArrays, Triplets]:
    """Four people; ada has said yes to bob, and no to cyd and dot."""
    arrays = DomainArrays(
        schema=SCHEMA,
        user_ids=USERS,
        vectors=np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float16),
        columns=np.array([[30, 1], [31, np.nan], [np.nan, 0], [29, 1]], np.float32),
        seekers=np.array([0, 0, 0], np.int32),
        candidates=np.array([1, 2, 3], np.int32),
        levels=np.array([2, 0, 0], np.int8),
        weights=np.array([1, 0.5, 2], np.float32),
        times=np.array([1_000_000, 2_000_000, 3_000_000], np.int64),
    )
    triplets = form_triplets(
        arrays.seekers, arrays.candidates, arrays.levels, arrays.weights, hash_ids(USERS)
    )
    return arrays, triplets


async def test_the_trainer_reads_a_snapshot_as_the_triplet_store_wrote_it(
    shelf: HeadShelf,
) -> None:
    arrays, triplets = domain()
    digest = await SafetensorsSnapshots(shelf.artifacts).write(arrays, triplets)
    found = read_snapshot(await shelf.heads.read(digest))
    assert (found.encoder, found.rule_version) == ("test", RULE_VERSION)
    columns = [(column.name, column.type, column.members) for column in found.fields]
    assert columns == [("age", "integer", ()), ("goal", "enum", ("fun", "love"))]
    for name in ("vectors", "columns"):
        expected = getattr(arrays, name)
        assert np.array_equal(getattr(found, name).numpy(), expected, equal_nan=True), name
    # Outcomes are read in an order that does not depend on the one in which they came.
    names = ("seekers", "candidates", "levels", "weights", "times")
    rows = sorted(zip(*(getattr(found, name).tolist() for name in names), strict=True))
    assert rows == sorted(zip(*(getattr(arrays, name).tolist() for name in names), strict=True))
    whom = found.candidates.tolist()
    told = [
        (anchor, whom[better], whom[worse]) for anchor, better, worse in found.triplets.tolist()
    ]
    weights = found.triplet_weights.tolist()
    first, second, third = arrays.candidates.tolist()[:3]
    assert dict(zip(told, weights, strict=True)) == {(0, first, second): 1, (0, first, third): 4}


async def test_the_same_domain_has_the_same_digest_however_its_arrays_lie(
    shelf: HeadShelf,
) -> None:
    snapshots, (arrays, triplets) = SafetensorsSnapshots(shelf.artifacts), domain()
    turned = dataclasses.replace(arrays, vectors=np.asfortranarray(arrays.vectors))
    digest = await snapshots.write(arrays, triplets)
    assert await snapshots.write(turned, triplets) == digest
    moved = dataclasses.replace(arrays, times=arrays.times + 1)
    assert await snapshots.write(moved, triplets) != digest


async def test_a_corrupt_snapshot_is_not_learned_from(shelf: HeadShelf) -> None:
    digest = await SafetensorsSnapshots(shelf.artifacts).write(*domain())
    await shelf.spoil(digest)
    with pytest.raises(ArtifactError, match=f"{digest} is corrupt"):
        await shelf.heads.read(digest)


async def test_a_head_is_read_as_it_was_written(shelf: HeadShelf) -> None:
    desired = await shelf.store()
    assert await shelf.heads.read_head(desired.manifest_digest) == learned_head().files


async def test_a_manifest_tells_where_its_head_comes_from(shelf: HeadShelf) -> None:
    head, run = learned_head(), leased(incumbent="u_acme.dating.2026-05-16.004")
    digest = await shelf.heads.write_head(run, SNAPSHOT_DIGEST, head)
    manifest = json.loads(VERIFIER.open(await shelf.artifacts.get(digest)))
    lineage = {
        "head": run.head,
        "tenant": "acme",
        "domain": "dating",
        "tier": "tenant",
        "run_id": run.run_id,
        "snapshot_digest": SNAPSHOT_DIGEST,
        "parent": "u_acme.dating.2026-05-16.004",
        "code_version": CODE_VERSION,
        "rule_version": head.rule_version,
    }
    assert {name: manifest[name] for name in lineage} == lineage
    assert json.loads(manifest["recipe"]) == json.loads(json.dumps(head.recipe))
    sizes = {part["role"]: int(part["file"]["size_bytes"]) for part in manifest["parts"]}
    files = head.files
    assert sizes == {
        "ROLE_QUERY_MAP": len(files.query_map),
        "ROLE_PERSON": len(files.person),
        "ROLE_LIGHT": len(files.light),
        "ROLE_CROSS": len(files.cross),
    }


async def test_the_same_run_has_the_same_manifest(shelf: HeadShelf) -> None:
    first = await shelf.store(1)
    assert (await HeadShelf().store(1)).manifest_digest == first.manifest_digest
    assert (await shelf.store(2)).manifest_digest != first.manifest_digest
    later = ArtifactHeads(shelf.artifacts, SIGNER, VERIFIER, "0.2.0")
    digest = await later.write_head(leased(head=first.head), SNAPSHOT_DIGEST, learned_head())
    assert digest != first.manifest_digest


@pytest.mark.parametrize("name", ["MANIFEST", "QUERY_MAP", "PERSON", "LIGHT", "CROSS", "TABLE"])
async def test_a_head_with_a_corrupt_or_missing_artifact_is_not_measured_against(
    shelf: HeadShelf, name: str
) -> None:
    desired = await shelf.store()
    digest = (await shelf.digests(desired))[name]
    await shelf.spoil(digest)
    with pytest.raises(ArtifactError, match=f"{digest} is corrupt"):
        await shelf.heads.read_head(desired.manifest_digest)
    await shelf.lose(digest)
    with pytest.raises(ArtifactError, match=f"{digest} does not exist"):
        await shelf.heads.read_head(desired.manifest_digest)
