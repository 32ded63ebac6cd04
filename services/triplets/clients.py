"""What the triplet store asks of other services: serving's encoder."""

from collections.abc import Sequence

import grpc
import numpy as np
import numpy.typing as npt
from trine.serving.v1 import encoder_service_pb2, encoder_service_pb2_grpc

from services.triplets.core.errors import EncoderUnavailableError

PATIENT_SECONDS = 120.0


class ServingEncoder:
    """The encoder that runs in serving."""

    def __init__(self, channel: grpc.aio.Channel, name: str, dim: int) -> None:
        self._stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)
        self.name = name
        self.dim = dim

    async def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        """Returns unit vectors [texts, dim], soon: somebody waits for them."""
        vectors, _ = await self._ask(texts, None)
        return vectors

    async def encode_counted(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.float16], list[int]]:
        """Returns unit vectors [texts, dim] and how many tokens were read of each text.

        That may take its time: whoever reads files gives way to those who wait.
        """
        return await self._ask(texts, PATIENT_SECONDS)

    async def _ask(
        self, texts: Sequence[str], seconds: float | None
    ) -> tuple[npt.NDArray[np.float16], list[int]]:
        request = encoder_service_pb2.EncodeTextsRequest(texts=texts)
        try:
            response = await self._stub.EncodeTexts(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise EncoderUnavailableError from error
        if (response.encoder, response.dim) != (self.name, self.dim):
            raise EncoderUnavailableError  # serving runs another encoder than configured here
        vectors = np.frombuffer(response.vectors, "<f2").reshape(len(texts), self.dim)
        return vectors, list(response.token_counts)
