"""ModelService: embedding and reranking by models, for the gateway."""

from trine.serving.v1 import model_service_pb2 as pb
from trine.serving.v1 import model_service_pb2_grpc

from services.chassis.interceptors import Context
from services.serving.core.errors import FieldInvalidError
from services.serving.core.models import ModelShelf, embed, rerank


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Uses models by their names."""

    def __init__(self, shelf: ModelShelf) -> None:
        self._shelf = shelf

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        query = request.input_type != pb.EmbedRequest.INPUT_TYPE_DOCUMENT
        asked = (request.tenant, request.model, request.texts)
        found = await embed(self._shelf, *asked, query=query)
        return pb.EmbedResponse(
            vectors=found.vectors.astype("<f4").tobytes(),
            dim=found.vectors.shape[1],
            tokens_count=found.tokens_count,
            head=found.head,
        )

    async def Rerank(self, request: pb.RerankRequest, context: Context) -> pb.RerankResponse:
        if request.top_n < 0:
            raise FieldInvalidError("top_n", "must not be negative")
        asked = (request.tenant, request.model, request.query, request.documents)
        found = await rerank(self._shelf, *asked)
        shown = request.top_n or len(found.places)
        pairs = list(zip(found.places, found.scores, strict=True))[:shown]
        return pb.RerankResponse(
            results=[
                pb.RerankResponse.Result(index=place, relevance_score=score)
                for place, score in pairs
            ],
            tokens_count=found.tokens_count,
            head=found.head,
        )
