"""Models by their names: what a name stands for is asked of the scheduler, maps are kept in memory.

A map is loaded when it is first asked for, checked as heads are, and kept until others were asked
for more recently. What a name stands for is asked again every few seconds, because a domain's head
changes and models are deleted; while the scheduler is away, the last word stands for a while.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.serving.core.candidates import Floats
from services.serving.core.errors import (
    FieldInvalidError,
    HeadRefusedError,
    ModelNotFoundError,
    ModelUnavailableError,
)
from services.serving.core.ports import (
    Clock,
    DesiredModel,
    Encoder,
    MapSource,
    ModelCatalog,
    TextMap,
)

FRESH_SECONDS = 2.0
VALID_SECONDS = 300.0
"""For as long a word of the scheduler's is taken while it cannot be asked."""
NAMES_MAX = 10_000
MAPS_MAX = 64
LOADS_MAX = 4
"""Of maps at once."""
TEXTS_MAX = 2_048
DOCUMENTS_MAX = 1_000
TEXT_CHARACTERS_MAX = 100_000
ENCODED_TEXTS = 128
"""At once: the texts of others take turns with a long list's."""
LENGTH_MIN = 1e-12


@dataclass(frozen=True, slots=True)
class Model:
    """A model at hand."""

    head: str
    map: TextMap | None
    """None for the encoder alone."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What the scheduler said of a name."""

    model: DesiredModel
    asked_at: float


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors float32 [texts, dim], and what it took."""

    vectors: Floats
    tokens_count: int
    head: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """Places and scores of documents, the best first."""

    places: Sequence[int]
    scores: Sequence[float]
    tokens_count: int
    head: str


class ModelShelf:
    """The models that were asked for."""

    def __init__(
        self, catalog: ModelCatalog, source: MapSource, encoder: Encoder, clock: Clock
    ) -> None:
        self.encoder = encoder
        self._catalog = catalog
        self._source = source
        self._clock = clock
        self._words: OrderedDict[tuple[str, str], _Word] = OrderedDict()
        self._maps: OrderedDict[str, TextMap] = OrderedDict()
        self._loading: dict[str, asyncio.Task[TextMap]] = {}
        self._turns = asyncio.Semaphore(LOADS_MAX)

    async def get(self, tenant: str, name: str) -> Model:
        """Returns a model of a tenant.

        Raises:
            FieldInvalidError: it reads vectors that texts do not have here.
            ModelNotFoundError: the tenant has none of this name.
            ModelUnavailableError: it cannot be loaded, or the scheduler not be asked.
        """
        wanted = await self._ask(tenant, name)
        digest = wanted.manifest_digest
        if not digest:
            return Model(wanted.head, None)
        found = self._maps.get(digest)
        if found is None:
            loading = self._loading.get(digest) or self._begin(wanted)
            try:
                found = await asyncio.shield(loading)
            except HeadRefusedError as error:
                raise ModelUnavailableError(name) from error
        else:
            self._maps.move_to_end(digest)
        return Model(wanted.head, found)

    async def _ask(self, tenant: str, name: str) -> DesiredModel:
        key, now = (tenant, name), self._clock.monotonic()
        word = self._words.get(key)
        if word is not None and now - word.asked_at < FRESH_SECONDS:
            return word.model
        try:
            model = await self._catalog.get(tenant, name)
        except ModelNotFoundError:
            self._words.pop(key, None)
            raise
        except ModelUnavailableError:
            if word is not None and now - word.asked_at < VALID_SECONDS:
                return word.model
            raise
        self._words[key] = _Word(model, now)
        self._words.move_to_end(key)
        if len(self._words) > NAMES_MAX:
            self._words.popitem(last=False)
        return model

    def _begin(self, wanted: DesiredModel) -> "asyncio.Task[TextMap]":
        task = asyncio.create_task(self._load(wanted))
        self._loading[wanted.manifest_digest] = task
        task.add_done_callback(lambda done: self._loaded(wanted.manifest_digest, done))
        return task

    async def _load(self, wanted: DesiredModel) -> TextMap:
        async with self._turns:
            space = (self.encoder.name, self.encoder.dim)
            return await self._source.load_map(wanted, space)

    def _loaded(self, digest: str, task: "asyncio.Task[TextMap]") -> None:
        del self._loading[digest]
        if task.cancelled() or task.exception() is not None:
            return  # whoever waited has seen it, and the next call tries again
        self._maps[digest] = task.result()
        if len(self._maps) > MAPS_MAX:
            self._maps.popitem(last=False)


async def embed(
    shelf: ModelShelf, tenant: str, name: str, texts: Sequence[str], *, query: bool
) -> Embedded:
    """Returns a unit vector for each text: a query's as the model maps it, a document's as it is.

    Raises:
        FieldInvalidError: no texts, too many, or one that is empty or too long.
        ModelNotFoundError, ModelUnavailableError: as `ModelShelf.get`.
    """
    _check_texts("texts", texts, TEXTS_MAX)
    model = await shelf.get(tenant, name)
    vectors, tokens_count = await _encode(shelf.encoder, texts)
    if query and model.map is not None:
        vectors = await asyncio.to_thread(model.map.map_texts, vectors)
    return Embedded(vectors, tokens_count, model.head)


async def rerank(
    shelf: ModelShelf, tenant: str, name: str, query: str, documents: Sequence[str]
) -> Ranked:
    """Ranks documents by the cosine of their vectors with that of the query as the model maps it.

    Raises:
        As `embed`.
    """
    _check_texts("query", [query], 1)
    _check_texts("documents", documents, DOCUMENTS_MAX)
    model = await shelf.get(tenant, name)
    vectors, tokens_count = await _encode(shelf.encoder, [query, *documents])
    asked = vectors[:1]
    if model.map is not None:
        asked = await asyncio.to_thread(model.map.map_texts, asked)
    scores = vectors[1:] @ asked[0]
    order = np.argsort(-scores, kind="stable")
    return Ranked(order.tolist(), scores[order].tolist(), tokens_count, model.head)


def _check_texts(field: str, texts: Sequence[str], count_max: int) -> None:
    if not 1 <= len(texts) <= count_max:
        raise FieldInvalidError(field, f"must be 1 to {count_max} texts")
    for text in texts:
        if not text.strip():
            raise FieldInvalidError(field, "must not be empty")
        if len(text) > TEXT_CHARACTERS_MAX:
            raise FieldInvalidError(field, f"must have at most {TEXT_CHARACTERS_MAX} characters")


async def _encode(encoder: Encoder, texts: Sequence[str]) -> tuple[Floats, int]:
    parts: list[Floats] = []
    tokens_count = 0
    for start in range(0, len(texts), ENCODED_TEXTS):
        vectors, counts = await encoder.encode_counted(texts[start : start + ENCODED_TEXTS])
        parts.append(vectors.astype(np.float32))
        tokens_count += sum(counts)
    joined = np.concatenate(parts)
    lengths = np.linalg.norm(joined, axis=1, keepdims=True)
    # The encoder's float16 are a thousandth off a length of 1.
    return joined / np.maximum(lengths, LENGTH_MIN), tokens_count
