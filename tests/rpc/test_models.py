"""Embedding and reranking over the wire."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from trine.serving.v1 import model_service_pb2 as pb
from trine.serving.v1 import model_service_pb2_grpc

from services.serving.core.ports import DesiredModel
from tests.support.server import ACME, MESH, refused
from tests.support.serving import Serving, running_serving


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with running_serving() as opened:
        opened.catalog.models["acme", "ft:one"] = DesiredModel("acme", "ft:one", "1")
        yield opened


def embed(serving: Serving, *texts: str, metadata: Any = MESH, **content: Any) -> Any:
    given = {"tenant": "acme", "model": "ft:one", **content}
    stub = model_service_pb2_grpc.ModelServiceStub(serving.channel)
    return stub.Embed(pb.EmbedRequest(texts=texts, **given), metadata=metadata)


def rerank(serving: Serving, query: str, *documents: str, **content: Any) -> Any:
    given = {"tenant": "acme", "model": "ft:one", **content}
    stub = model_service_pb2_grpc.ModelServiceStub(serving.channel)
    return stub.Rerank(pb.RerankRequest(query=query, documents=documents, **given), metadata=MESH)


async def test_texts_are_embedded(serving: Serving) -> None:
    query = await embed(serving, "a", "bb cc")
    document = await embed(serving, "a", "bb cc", input_type="INPUT_TYPE_DOCUMENT")
    vectors = np.frombuffer(query.vectors, "<f4").reshape(2, query.dim)
    assert (query.dim, query.tokens_count, query.head) == (2, 3, "ft:one")
    others = np.frombuffer(document.vectors, "<f4").reshape(2, 2)
    assert np.array_equal(vectors, others[:, ::-1])


async def test_documents_are_reranked(serving: Serving) -> None:
    answer = await rerank(serving, "q" * 40, "a", "b" * 40, "c", top_n=2)
    assert [result.index for result in answer.results] == [0, 2]
    assert answer.results[0].relevance_score <= 1


async def test_what_cannot_be_is_refused(serving: Serving) -> None:
    assert (await refused(embed(serving, "a", model="gpt"))).reason == "MODEL_NOT_FOUND"
    assert (await refused(embed(serving, "a", tenant="other"))).reason == "MODEL_NOT_FOUND"
    assert (await refused(embed(serving))).metadata["field"] == "texts"
    assert (await refused(rerank(serving, "", "a"))).metadata["field"] == "query"
    assert (await refused(rerank(serving, "q"))).metadata["field"] == "documents"
    assert (await refused(rerank(serving, "q", "a", top_n=-1))).metadata["field"] == "top_n"
    serving.maps.broken = True
    assert (await refused(embed(serving, "a"))).reason == "MODEL_UNAVAILABLE"


async def test_the_service_is_internal(serving: Serving) -> None:
    assert (await refused(embed(serving, "a", metadata=ACME))).reason == "INTERNAL_RPC"
