"""What is done with models: texts to vectors, documents in the order of their relevance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of texts, one after the other: little-endian float32."""

    vectors: bytes
    dim: int
    tokens_count: int


@dataclass(frozen=True, slots=True)
class Reranked:
    """Places and scores of documents, the best first."""

    ranked: Sequence[tuple[int, float]]
    tokens_count: int


class Inference(Protocol):
    """Serving's models.

    What it refuses with passes; a field that breaks a rule is FieldInvalidError, in its own words.
    """

    async def embed(
        self, tenant: str, model: str, texts: Sequence[str], *, query: bool
    ) -> Embedded:
        """Returns a vector for each text: a query's, or a document's."""
        ...

    async def rerank(
        self, tenant: str, model: str, query: str, documents: Sequence[str], top_n: int
    ) -> Reranked:
        """Returns the best `top_n` documents; 0 means all."""
        ...
