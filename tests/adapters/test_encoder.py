"""The sentence encoder gives the published vectors, alone or among others, from our own export."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from services.chassis.tasks import background
from services.mesh.fleet import encoder_path
from services.serving import encoder as batching
from services.serving.encoder import (
    BATCH_TEXTS_MAX,
    TOKENS_MAX,
    Encoded,
    EncoderError,
    OnnxEncoder,
    Vectors,
)
from services.trainer.learning import encoder as exporting
from services.trainer.learning.encoder import WHEEL_PACKAGE, SentenceEncoder, export_encoder

WEATHER = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
PUBLISHED_COSINES = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
EXAMPLE = "This is an example sentence"
PUBLISHED_START = [0.0676569, 0.0634958, 0.0487131, 0.0793050, 0.0374480]
"""What the sentence-transformers library gives for these texts, from its documentation."""

TEXTS = ["", "a", *WEATHER, EXAMPLE, "Ünïcödé, 你好, 🙂!", "tea " * 100, "UPPER and lower", " "]
FLOAT16_STEP = 1e-3


@pytest.fixture
def encoder() -> OnnxEncoder:
    """The encoder that `make install` has exported."""
    return OnnxEncoder("all-minilm-l6-v2", encoder_path(), threads=1)


@asynccontextmanager
async def running(encoder: OnnxEncoder) -> AsyncIterator[OnnxEncoder]:
    """Runs what encodes beside the callers."""
    async with background(encoder.run()):
        yield encoder


async def encode(encoder: OnnxEncoder, *texts: str) -> Vectors:
    """Encodes texts in one call."""
    async with running(encoder):
        return await encoder.encode(texts)


async def test_vectors_are_the_published_ones(encoder: OnnxEncoder) -> None:
    vectors = (await encode(encoder, *WEATHER)).astype(np.float32)
    assert vectors @ vectors.T == pytest.approx(np.array(PUBLISHED_COSINES), abs=FLOAT16_STEP)
    (vector,) = await encode(encoder, EXAMPLE)
    assert vector[:5] == pytest.approx(PUBLISHED_START, abs=1e-4)


async def test_vectors_are_short_floats_of_length_one(encoder: OnnxEncoder) -> None:
    vectors = await encode(encoder, *TEXTS)
    assert vectors.dtype == np.float16
    assert vectors.shape == (len(TEXTS), encoder.dim) == (len(TEXTS), 384)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert lengths == pytest.approx(np.ones(len(TEXTS)), abs=FLOAT16_STEP)


async def test_a_text_has_the_same_vector_alone_and_among_others(encoder: OnnxEncoder) -> None:
    together = await encode(encoder, *TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        (alone,) = await encode(encoder, text)
        assert alone == pytest.approx(vector, abs=FLOAT16_STEP), text


async def test_answers_come_in_the_order_of_the_texts_over_many_batches(
    encoder: OnnxEncoder,
) -> None:
    known = dict(zip(TEXTS, await encode(encoder, *TEXTS), strict=True))
    texts = TEXTS * (2 * BATCH_TEXTS_MAX // len(TEXTS)) + TEXTS[::-1]
    for text, vector in zip(texts, await encode(encoder, *texts), strict=True):
        assert vector == pytest.approx(known[text], abs=FLOAT16_STEP), text


async def test_what_lies_beyond_the_longest_length_is_not_read(encoder: OnnxEncoder) -> None:
    full = "tea " * (TOKENS_MAX - 2)  # and the marks of start and end
    at_limit, beyond, shorter = await encode(encoder, full, full + "zebra " * 900, full[:-4])
    assert np.array_equal(at_limit, beyond)
    assert not np.array_equal(at_limit, shorter)


async def test_an_empty_text_has_the_vector_of_nothing_said(encoder: OnnxEncoder) -> None:
    empty, blank, word = await encode(encoder, "", " \n ", "a")
    assert np.array_equal(empty, blank)
    assert not np.array_equal(empty, word)


class CountingEncoder(OnnxEncoder):
    """Remembers its batches and breaks on one text."""

    def __init__(self) -> None:
        super().__init__("all-minilm-l6-v2", encoder_path(), threads=1)
        self.batches: list[list[str]] = []

    def _encode(self, texts: list[str]) -> Encoded:
        if hasattr(self, "batches"):
            self.batches.append(texts)
        if "break" in texts:
            raise RuntimeError("broken")
        return super()._encode(texts)


async def test_callers_who_wait_together_share_a_batch() -> None:
    encoder = CountingEncoder()
    callers = [asyncio.ensure_future(encoder.encode([text])) for text in ("tea", "rye", "oat")]
    await asyncio.sleep(0)  # all have asked before the first batch begins
    async with running(encoder):
        await asyncio.gather(*callers)
    assert encoder.batches == [["tea", "rye", "oat"]]


async def test_a_batch_that_breaks_is_told_to_its_callers_and_the_next_one_works() -> None:
    encoder = CountingEncoder()
    async with running(encoder):
        with pytest.raises(RuntimeError, match="broken"):
            await encoder.encode(["tea", "break"])
        assert len(await encoder.encode(["tea"])) == 1


async def test_a_caller_who_leaves_takes_nobody_along() -> None:
    encoder = CountingEncoder()
    leaving = asyncio.ensure_future(encoder.encode(["tea"]))
    staying = asyncio.ensure_future(encoder.encode(["tea", "rye"]))
    await asyncio.sleep(0)
    leaving.cancel()
    async with running(encoder):
        assert len(await staying) == 2


async def test_many_texts_go_in_batches_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "BATCH_TEXTS_MAX", 2)
    encoder = CountingEncoder()
    async with running(encoder):
        await encoder.encode(["tea " * 20, "tea", "rye " * 20, "rye"])
    assert encoder.batches == [["tea", "rye"], ["tea " * 20, "rye " * 20]]


async def test_the_export_computes_what_torch_does(encoder: OnnxEncoder) -> None:
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    module = SentenceEncoder(json.loads((folder / "config.json").read_text())).eval()
    module.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    encodings = encoder._tokenizer.encode_batch(TEXTS)
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    with torch.no_grad():
        expected = module(ids, mask).numpy()
    assert await encode(encoder, *TEXTS) == pytest.approx(expected, abs=FLOAT16_STEP)


def test_an_encoder_that_is_there_is_not_exported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "WHEEL_PACKAGE", "no_such_package")
    (tmp_path / "model.onnx").write_bytes(b"exported")
    (tmp_path / "SHA256SUMS").touch()  # comes last
    export_encoder(tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == b"exported"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_an_encoder_that_is_not_what_was_installed_is_not_opened(tmp_path: Path, name: str) -> None:
    for each in ("model.onnx", "tokenizer.json", "SHA256SUMS"):
        (tmp_path / each).symlink_to(encoder_path() / each)
    OnnxEncoder("whole", tmp_path, threads=1)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=f"{name} is not what its digest"):
        OnnxEncoder("spoiled", tmp_path, threads=1)
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(EncoderError, match="SHA256SUMS does not exist"):
        OnnxEncoder("unknown", tmp_path, threads=1)


def test_without_the_weights_it_is_said_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "WHEEL_PACKAGE", "no_such_package")
    with pytest.raises(SystemExit, match="no_such_package is not installed: run `make install`"):
        export_encoder(tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()
