"""Models from the artifact store: as the trainer stores them, as serving opens them."""

import asyncio
import dataclasses
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import load, save

from services.chassis.artifacts import ObjectArtifacts, memory_artifacts
from services.serving.artifacts import ArtifactBundles
from services.serving.core.errors import FieldInvalidError, HeadRefusedError
from services.serving.core.ports import DesiredModel
from services.trainer.artifacts import ArtifactHeads
from services.trainer.core.ports import FileWish, Hyperparameters, LearnedModel
from services.trainer.core.watch import ModelFiles, Watch
from services.trainer.learning.file_learner import TorchFileLearner
from tests.support.attempts import leased
from tests.support.file_snapshots import DIM, file_snapshot
from tests.support.heads import LAYOUT, HeadShelf
from tests.support.probes import PROBE
from tests.support.signatures import SIGNER, VERIFIER

NAME = "ft:trine-general:acme::one"
SPACE = ("test", DIM)


@cache
def learned() -> LearnedModel:
    """A model of one epoch."""
    wish = FileWish(
        training_file_digest="1" * 64,
        validation_file_digest="",
        method="",
        hyperparameters=Hyperparameters(n_epochs=1),
    )
    content = asyncio.run(file_snapshot(anchors=20, held_out=5))
    return TorchFileLearner("cpu").learn(content, None, None, wish, seed=0, watch=Watch("", ""))


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return learned().files


@pytest.fixture
def artifacts() -> ObjectArtifacts:
    return memory_artifacts()


def opened_from(artifacts: ObjectArtifacts) -> ArtifactBundles:
    return ArtifactBundles(artifacts, VERIFIER, PROBE)


async def store(artifacts: ObjectArtifacts, files: ModelFiles) -> DesiredModel:
    run = leased(domain="", head=NAME)
    digest = await ArtifactHeads(artifacts, SIGNER, VERIFIER, "0.1.0").write_model(
        run, NAME, "5" * 64, files, recipe={"seed": 0}
    )
    return DesiredModel("acme", NAME, digest)


async def test_a_model_maps_as_it_was_trained(
    artifacts: ObjectArtifacts, files: ModelFiles
) -> None:
    opened = await opened_from(artifacts).load_map(await store(artifacts, files), SPACE)
    golden = load(files.golden)
    assert np.allclose(opened.map_texts(golden["vectors"]), golden["query"], atol=1e-4)


async def test_the_head_of_a_domain_maps_texts_too() -> None:
    shelf = HeadShelf()
    head = await shelf.store()
    desired = DesiredModel(head.tenant, head.head, head.manifest_digest)
    space = (LAYOUT.encoder, LAYOUT.dim)
    opened = await ArtifactBundles(shelf.artifacts, VERIFIER, PROBE).load_map(desired, space)
    vectors = np.eye(LAYOUT.dim, dtype=np.float32)[:3]
    mapped = opened.map_texts(vectors)
    assert np.linalg.norm(mapped, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("tenant", "name"), [("other", NAME), ("acme", "ft:other"), ("_shared", NAME)]
)
async def test_a_manifest_of_something_else_is_refused(
    artifacts: ObjectArtifacts, files: ModelFiles, tenant: str, name: str
) -> None:
    desired = dataclasses.replace(await store(artifacts, files), owner=tenant, head=name)
    with pytest.raises(HeadRefusedError):
        await opened_from(artifacts).load_map(desired, SPACE)


async def test_a_map_that_reads_no_texts_is_refused_for_good(
    artifacts: ObjectArtifacts, files: ModelFiles
) -> None:
    desired = await store(artifacts, files)
    for space in (("other", DIM), (SPACE[0], DIM + 1)):
        with pytest.raises(FieldInvalidError, match="must read texts"):
            await opened_from(artifacts).load_map(desired, space)


async def test_a_map_that_gives_something_else_is_refused(
    artifacts: ObjectArtifacts, files: ModelFiles
) -> None:
    golden = load(files.golden)
    golden["query"] = golden["query"][::-1].copy()
    false = dataclasses.replace(files, golden=save(golden))
    with pytest.raises(HeadRefusedError, match="golden"):
        await opened_from(artifacts).load_map(await store(artifacts, false), SPACE)


async def test_a_map_that_is_gone_or_broken_is_refused(
    artifacts: ObjectArtifacts, files: ModelFiles
) -> None:
    broken = dataclasses.replace(files, query_map=b"no ONNX")
    with pytest.raises(HeadRefusedError):
        await opened_from(artifacts).load_map(await store(artifacts, broken), SPACE)
    with pytest.raises(HeadRefusedError):
        await opened_from(artifacts).load_map(DesiredModel("acme", NAME, "0" * 64), SPACE)
