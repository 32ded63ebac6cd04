"""EncoderService: texts to vectors, for the triplet store."""

from trine.serving.v1 import encoder_service_pb2 as pb
from trine.serving.v1 import encoder_service_pb2_grpc

from services.chassis.interceptors import Context
from services.serving.core.errors import FieldInvalidError
from services.serving.core.ports import Encoder

TEXTS_MAX = 256


class EncoderServicer(encoder_service_pb2_grpc.EncoderServiceServicer):
    """Encodes texts."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    async def EncodeTexts(
        self, request: pb.EncodeTextsRequest, context: Context
    ) -> pb.EncodeTextsResponse:
        if not 1 <= len(request.texts) <= TEXTS_MAX:
            raise FieldInvalidError("texts", f"must be 1 to {TEXTS_MAX}")
        vectors, token_counts = await self._encoder.encode_counted(request.texts)
        return pb.EncodeTextsResponse(
            vectors=vectors.astype("<f2").tobytes(),
            dim=self._encoder.dim,
            encoder=self._encoder.name,
            token_counts=token_counts,
        )
