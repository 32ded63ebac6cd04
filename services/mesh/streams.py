"""What an operator asks once NATS has lost its store: the stream, made anew from the outbox."""

from trine.scheduler.v1 import stream_service_pb2 as pb
from trine.scheduler.v1 import stream_service_pb2_grpc

from services.mesh.home import Home
from services.mesh.operator import channel_to


async def rebuild_stream(home: Home) -> int:
    """Returns how many events are published again.

    Raises:
        NoMeshError: no mesh runs here.
        grpc.aio.AioRpcError: the stream cannot be reached.
    """
    async with channel_to(home, "scheduler") as channel:
        stub = stream_service_pb2_grpc.StreamServiceStub(channel)
        answer = await stub.RebuildStream(pb.RebuildStreamRequest())
        return answer.events_count
