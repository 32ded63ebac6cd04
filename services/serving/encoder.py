"""The sentence encoder: WordPiece and a BERT in onnxruntime, many callers a batch.

Requests that arrive while a batch runs are taken together into the next one: alone a text costs 7
ms of a core, in a batch of 32 it costs 4.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

BATCH_TEXTS_MAX = 32
BATCHES_SORTED = 4
TOKENS_MAX = 256

Vectors = npt.NDArray[np.float16]
Encoded = tuple[Vectors, list[int]]
"""Unit vectors [texts, dim], and how many tokens were read of each text."""


class EncoderError(Exception):
    """The encoder's files are not those that were installed."""


class OnnxEncoder:
    """An encoder from a folder with model.onnx, tokenizer.json and SHA256SUMS of both.

    Run `run` beside it.
    """

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        digests = _read_digests(folder)
        self._session = onnxruntime.InferenceSession(
            _read(folder, "model.onnx", digests), options, providers=["CPUExecutionProvider"]
        )
        tokenizer = _read(folder, "tokenizer.json", digests)
        self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        self._tokenizer.enable_truncation(TOKENS_MAX)
        self._tokenizer.enable_padding()  # to the longest of the batch, not to a fixed length
        self._executor = ThreadPoolExecutor(1, "encoder")
        self._waiting: list[tuple[str, asyncio.Future[tuple[Vectors, int]]]] = []
        self._arrived = asyncio.Event()
        self.dim = int(self._encode(["."])[0].shape[1])

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns unit vectors [texts, dim]."""
        vectors, _ = await self.encode_counted(texts)
        return vectors

    async def encode_counted(self, texts: Sequence[str]) -> Encoded:
        """Returns unit vectors [texts, dim] and how many tokens were read of each text."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in texts]
        self._waiting += zip(texts, futures, strict=True)
        self._arrived.set()
        encoded = await asyncio.gather(*futures)
        return np.stack([vector for vector, _ in encoded]), [count for _, count in encoded]

    async def run(self) -> None:
        """Encodes what has arrived, batch by batch, until cancelled."""
        while True:
            await self._arrived.wait()
            count = BATCH_TEXTS_MAX * BATCHES_SORTED
            # Whoever has gone away in the meantime need not be worked for.
            waiting = [item for item in self._waiting if not item[1].done()]
            oldest, self._waiting = waiting[:count], waiting[count:]
            if not self._waiting:
                self._arrived.clear()
            # Texts of like length go together: a batch costs what its longest text costs.
            oldest.sort(key=lambda item: len(item[0]))
            for start in range(0, len(oldest), BATCH_TEXTS_MAX):
                await self._answer(oldest[start : start + BATCH_TEXTS_MAX])

    async def _answer(self, batch: list[tuple[str, asyncio.Future[tuple[Vectors, int]]]]) -> None:
        loop = asyncio.get_running_loop()
        texts = [text for text, _ in batch]
        try:
            vectors, counts = await loop.run_in_executor(self._executor, self._encode, texts)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), vector, count in zip(batch, vectors, counts, strict=True):
            if not future.done():
                future.set_result((vector, count))

    def _encode(self, texts: list[str]) -> Encoded:
        encodings = self._tokenizer.encode_batch(texts)
        feed = {
            "input_ids": np.array([e.ids for e in encodings], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
        }
        vectors: Vectors = self._session.run(None, feed)[0].astype(np.float16)
        return vectors, feed["attention_mask"].sum(axis=1).tolist()


def _read_digests(folder: Path) -> Mapping[str, str]:
    path = folder / "SHA256SUMS"
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        hint = "run `make install`, or `sha256sum model.onnx tokenizer.json > SHA256SUMS` there"
        raise EncoderError(f"{path} does not exist: {hint}") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _read(folder: Path, name: str, digests: Mapping[str, str]) -> bytes:
    """The bytes of a file, if they are what was installed: one turned bit gives other vectors."""
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != digests.get(name):
        raise EncoderError(f"{folder / name} is not what its digest in SHA256SUMS says")
    return content
