"""ImportUsers: a stream of batches between wire and core."""

from collections.abc import AsyncIterable

import numpy as np
import numpy.typing as npt
from trine.triplets.v1 import user_service_pb2 as pb

from services.chassis.clock import Clock
from services.chassis.crashpoint import crashpoint
from services.chassis.errors import describe
from services.chassis.structs import read_struct
from services.triplets.core.errors import DomainNotFoundError, FieldInvalidError
from services.triplets.core.import_users import RowError, UserRow, prepare_batch, save_batch
from services.triplets.core.ports import Encoder, TripletStore
from services.triplets.rpc.errors import ERRORS

ERRORS_MAX = 5_000
ERROR_CHARACTERS_MAX = 500
"""So that all of them fit into a message."""
_FLOAT_BYTES = 4


async def import_users(
    store: TripletStore,
    encoder: Encoder,
    clock: Clock,
    *,
    tenant: str,
    requests: AsyncIterable[pb.ImportUsersRequest],
) -> pb.ImportUsersResponse:
    """Stores batch after batch; what has been stored stays when a later batch is refused."""
    response = pb.ImportUsersResponse()
    start = 0
    async for request in requests:
        schema = await store.read_schema(tenant, request.domain)
        if schema is None:
            raise DomainNotFoundError(request.domain)
        rows = [
            UserRow(user_id=user.user_id, context=user.context, values=read_struct(user.fields))
            for user in request.users
        ]
        vectors = _read_vectors(request)
        batch = await prepare_batch(schema, encoder, rows, vectors, clock.now())
        async with store.open_domain(tenant, request.domain) as unit:
            await save_batch(unit, batch)
            crashpoint("triplets.import.written")
        crashpoint("triplets.import.committed")
        response.imported += len(rows) - len(batch.errors)
        response.rejected += len(batch.errors)
        room = ERRORS_MAX - len(response.errors)
        response.errors.extend(_error(start, error) for error in batch.errors[:room])
        start += len(rows)
    return response


def _read_vectors(request: pb.ImportUsersRequest) -> npt.NDArray[np.float32]:
    count = len(request.users)
    if len(request.vectors) % (_FLOAT_BYTES * max(1, count)):
        raise FieldInvalidError("vectors", "must be float32, as many numbers for each user")
    return np.frombuffer(request.vectors, "<f4").reshape(max(1, count), -1)


def _error(start: int, row: RowError) -> pb.ImportUsersResponse.Error:
    public = describe(row.error, ERRORS)
    assert public is not None  # the table has a row for every error of the core
    return pb.ImportUsersResponse.Error(
        index=start + row.index,
        field=public.metadata.get("field", ""),
        reason=public.reason,
        message=public.message[:ERROR_CHARACTERS_MAX],
    )
