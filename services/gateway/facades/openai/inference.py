"""/embeddings in OpenAI's words, and /rerank in those that Cohere and Jina share."""

import array
import asyncio
import base64
import sys

from aiohttp import web

from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.inference import Embedded, Inference, Reranked
from services.gateway.facades.openai.answers import Json, answer
from services.gateway.facades.requests import read_body, read_text
from services.gateway.http import Call, Route

EMBEDDING_FIELDS = ("input", "model", "encoding_format", "dimensions", "user", "input_type")
RERANK_FIELDS = ("model", "query", "documents", "top_n", "return_documents")
RESULTS_MAX = 1_000
FORMATS = ("float", "base64")
INPUT_TYPES = ("query", "document")


class Uses:
    """Uses of models."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def routes(self) -> list[Route]:
        """What is answered here."""
        return [
            Route("POST", "/embeddings", "match:read", self.embed),
            Route("POST", "/rerank", "match:read", self.rerank),
        ]

    async def embed(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, EMBEDDING_FIELDS)
        model, texts = read_text(body, "model"), _read_input(body)
        encoding = _choice(body, "encoding_format", FORMATS)
        query = _choice(body, "input_type", INPUT_TYPES) == "query"
        wanted = body.get("dimensions")
        found = await self._inference.embed(call.tenant, model, texts, query=query)
        if wanted is not None and (isinstance(wanted, bool) or wanted != found.dim):
            rule = f"{found.dim}, or left out: vectors are not shortened"
            raise FieldInvalidError("dimensions", rule)
        # Up to 786,432 numbers: a second of writing, off the loop.
        return await asyncio.to_thread(_write_embeddings, model, found, encoding)

    async def rerank(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, RERANK_FIELDS)
        model, query = read_text(body, "model"), read_text(body, "query")
        documents = _read_documents(body)
        top_n = _read_top(body)
        shown = body.get("return_documents", False)
        if not isinstance(shown, bool):
            raise FieldInvalidError("return_documents", "true or false")
        found = await self._inference.rerank(call.tenant, model, query, documents, top_n)
        results: list[Json] = [
            {
                "index": index,
                "relevance_score": score,
                **({"document": {"text": documents[index]}} if shown else {}),
            }
            for index, score in found.ranked
        ]
        return answer(
            {"object": "list", "model": model, "results": results, "usage": _usage(found)}
        )


def _read_input(body: Json) -> list[str]:
    """The texts: one or a list. Tokens of another vocabulary mean nothing to the encoder."""
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise FieldInvalidError("input", "a string or a list of strings, not empty")
    if any(isinstance(item, int | list) for item in texts):
        raise FieldInvalidError("input", "strings: token arrays are of another model's vocabulary")
    if not all(isinstance(item, str) for item in texts):
        raise FieldInvalidError("input", "a string or a list of strings")
    return texts


def _read_documents(body: Json) -> list[str]:
    """The texts: each a string, or an object with one."""
    value = body.get("documents")
    if not isinstance(value, list) or not value:
        raise FieldInvalidError("documents", "a list of strings or of objects with text, not empty")
    texts: list[str] = []
    for index, item in enumerate(value):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            raise FieldInvalidError(f"documents[{index}]", "a string, or an object with text")
        texts.append(text)
    return texts


def _read_top(body: Json) -> int:
    """How many results; 0 for all."""
    value = body.get("top_n")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= RESULTS_MAX:
        raise FieldInvalidError("top_n", f"an integer from 1 to {RESULTS_MAX}")
    return value


def _choice(body: Json, name: str, choices: tuple[str, ...]) -> str:
    value = body.get(name)
    if value is None:
        return choices[0]
    if value not in choices:
        raise FieldInvalidError(name, f"one of {', '.join(choices)}")
    return str(value)


def _write_embeddings(model: str, found: Embedded, encoding: str) -> web.Response:
    """The list of vectors: as numbers, or as base64 of little-endian float32."""
    size = 4 * found.dim
    vectors = [found.vectors[at : at + size] for at in range(0, len(found.vectors), size)]
    write = _numbers if encoding == "float" else lambda vector: base64.b64encode(vector).decode()
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(vectors)
    ]
    return answer({"object": "list", "data": data, "model": model, "usage": _usage(found)})


def _numbers(vector: bytes) -> list[float]:
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _usage(found: Embedded | Reranked) -> Json:
    return {"prompt_tokens": found.tokens_count, "total_tokens": found.tokens_count}
