"""FileSnapshotService: training files as trainers learn from them."""

from trine.triplets.v1 import file_snapshot_service_pb2 as pb
from trine.triplets.v1 import file_snapshot_service_pb2_grpc

from services.chassis.interceptors import Context
from services.triplets.core.create_file_snapshot import create_file_snapshot
from services.triplets.core.ports import CountingEncoder, FileShelf, TripletStore


class FileSnapshotServicer(file_snapshot_service_pb2_grpc.FileSnapshotServiceServicer):
    """Freezes training files."""

    def __init__(self, store: TripletStore, encoder: CountingEncoder, shelf: FileShelf) -> None:
        self._store = store
        self._encoder = encoder
        self._shelf = shelf

    async def CreateFileSnapshot(
        self, request: pb.CreateFileSnapshotRequest, context: Context
    ) -> pb.CreateFileSnapshotResponse:
        snapshot = await create_file_snapshot(
            self._store,
            self._encoder,
            self._shelf,
            tenant=request.tenant,
            training=request.training_file_digest,
            validation=request.validation_file_digest,
            method=request.method,
        )
        return pb.CreateFileSnapshotResponse(
            digest=snapshot.digest,
            training_lines_count=snapshot.training_lines_count,
            validation_lines_count=snapshot.validation_lines_count,
            held_out_lines_count=snapshot.held_out_lines_count,
            items_count=snapshot.items_count,
            tokens_count=snapshot.tokens_count,
            method=snapshot.method,
        )
