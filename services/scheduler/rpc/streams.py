"""StreamService: the stream of events, made anew."""

from collections.abc import Awaitable, Callable

from trine.scheduler.v1 import stream_service_pb2 as pb
from trine.scheduler.v1 import stream_service_pb2_grpc

from services.chassis.interceptors import Context


class StreamServicer(stream_service_pb2_grpc.StreamServiceServicer):
    """Has the stream made anew."""

    def __init__(self, rebuild: Callable[[], Awaitable[int]]) -> None:
        """`rebuild` returns how many events are published again."""
        self._rebuild = rebuild

    async def RebuildStream(
        self, request: pb.RebuildStreamRequest, context: Context
    ) -> pb.RebuildStreamResponse:
        return pb.RebuildStreamResponse(events_count=await self._rebuild())
