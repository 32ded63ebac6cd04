"""Rows of a file as the triplet store takes them: people by a stream, outcomes by batches."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import grpc
import numpy as np
from google.protobuf import json_format
from trine.triplets.v1 import (
    outcome_service_pb2,
    outcome_service_pb2_grpc,
    schema_pb2,
    schema_service_pb2,
    schema_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)

from services.mesh.bulk import Rejected
from services.mesh.rows import Cells, FileRow, Json

BATCH_ROWS_MAX = 1_000
BATCH_BYTES_MAX = 2_000_000
"""Of the file, per batch: half of what a message may have, which is of another form."""
SECONDS_MAX = 300.0

_CALLER = "caller"
_USER_KEYS = {"user_id", "context", "fields", "vector"}
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_OUTCOME_CELLS: Cells = {
    "seeker_id": str,
    "candidate_id": str,
    "outcome": str,
    "weight": float,
    "occurred_at": str,
    "match_id": str,
}

Metadata = tuple[tuple[str, str], ...]
UserRow = user_service_pb2.ImportUsersRequest.Row
Item = outcome_service_pb2.ReportOutcomesRequest.Item


class Importer:
    """Sends rows into one domain of a mesh."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Metadata, schema: schema_pb2.Schema
    ) -> None:
        self._metadata = metadata
        self._schema = schema
        self._users = user_service_pb2_grpc.UserServiceStub(channel)
        self._outcomes = outcome_service_pb2_grpc.OutcomeServiceStub(channel)

    def user_cells(self) -> Cells:
        """Columns of a CSV file of people: their fields stand under the schema's names."""
        fields = {field.name: _cell(field.type) for field in self._schema.fields}
        return {"user_id": str, **fields, "context": str, "vector": json.loads}

    def outcome_cells(self) -> Cells:
        """Columns of a CSV file of outcomes."""
        return _OUTCOME_CELLS

    async def send_users(self, rows: Sequence[FileRow]) -> list[Rejected]:
        """Imports people by one stream."""
        rejected: list[Rejected] = []
        sent: list[FileRow] = []

        async def requests() -> AsyncIterator[user_service_pb2.ImportUsersRequest]:
            for batch in _batches(rows):
                yield self._user_batch(batch, sent, rejected)

        response = await self._users.ImportUsers(
            requests(), metadata=self._metadata, timeout=SECONDS_MAX
        )
        return rejected + [Rejected(sent[error.index], error.message) for error in response.errors]

    def _user_batch(
        self, rows: Sequence[FileRow], sent: list[FileRow], rejected: list[Rejected]
    ) -> user_service_pb2.ImportUsersRequest:
        """A batch of the rows that can be said; the others are rejected here."""
        request = user_service_pb2.ImportUsersRequest(domain=self._schema.domain)
        vectors: list[bytes] = []
        for row in rows:
            try:
                user, vector = _read_user(row.content), self._read_vector(row.content)
            except (TypeError, ValueError) as error:
                rejected.append(Rejected(row, str(error)))
                continue
            request.users.append(user)
            vectors.append(vector)
            sent.append(row)
        request.vectors = b"".join(vectors)
        return request

    def _read_vector(self, content: Json) -> bytes:
        """A vector of the domain's length; zeros for a person without one."""
        embedding, given = self._schema.embedding, content.get("vector")
        if embedding.encoder != _CALLER:
            if given is not None:
                raise ValueError(f"vector: vectors of this domain come from {embedding.encoder}")
            return b""
        vector = np.asarray([0] * embedding.dim if given is None else given, "<f4")
        if vector.shape != (embedding.dim,):
            raise ValueError(f"vector: must be a list of {embedding.dim} numbers")
        return vector.tobytes()

    async def send_outcomes(self, rows: Sequence[FileRow]) -> list[Rejected]:
        """Reports outcomes, batch after batch, each kept but for its bad items."""
        rejected: list[Rejected] = []
        for batch in _batches(rows):
            request = outcome_service_pb2.ReportOutcomesRequest(
                domain=self._schema.domain, partial=True
            )
            sent: list[FileRow] = []
            for row in batch:
                try:
                    request.items.append(json_format.ParseDict(row.content, Item()))
                except json_format.ParseError as error:
                    rejected.append(Rejected(row, str(error)))
                else:
                    sent.append(row)
            if not sent:
                continue
            # What is sent again after a break is answered as it was, though it may say no time.
            content = request.SerializeToString(deterministic=True)
            request.request_id = hashlib.sha256(content).hexdigest()
            response = await self._outcomes.ReportOutcomes(
                request, metadata=self._metadata, timeout=SECONDS_MAX
            )
            rejected += [Rejected(sent[error.index], error.message) for error in response.errors]
        return rejected


@asynccontextmanager
async def open_importer(url: str, key: str, domain: str) -> AsyncIterator[Importer]:
    """An importer into a domain of the mesh at a URL, which speaks gRPC on the same port.

    Raises:
        grpc.aio.AioRpcError: the mesh cannot be reached, or does not know the key or the domain.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    address = f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
    metadata = (("authorization", f"Bearer {key}"),)
    async with (
        grpc.aio.secure_channel(address, grpc.ssl_channel_credentials())
        if secure
        else grpc.aio.insecure_channel(address)
    ) as channel:
        request = schema_service_pb2.GetSchemaRequest(domain=domain)
        stub = schema_service_pb2_grpc.SchemaServiceStub(channel)
        schema = await stub.GetSchema(request, metadata=metadata, timeout=SECONDS_MAX)
        yield Importer(channel, metadata, schema)


def _batches(rows: Sequence[FileRow]) -> Iterator[list[FileRow]]:
    batch: list[FileRow] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == BATCH_ROWS_MAX or size + row.bytes_count > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row.bytes_count
    if batch:
        yield batch


def _read_user(content: Json) -> UserRow:
    """A person: whatever is not their id, context or vector is a field."""
    fields = {name: value for name, value in content.items() if name not in _USER_KEYS}
    user = UserRow(user_id=content.get("user_id", ""), context=content.get("context", ""))
    user.fields.update({**content.get("fields", {}), **fields})
    return user


def _cell(kind: str) -> Callable[[str], object]:
    match kind:
        case "integer" | "number":
            return float
        case "boolean":
            return _truth
        case "list":
            return _strings
        case "geo":
            return _point
        case _:
            return str


def _strings(text: str) -> object:
    """A JSON list, or strings between semicolons."""
    return json.loads(text) if text.startswith("[") else [one.strip() for one in text.split(";")]


def _point(text: str) -> dict[str, float]:
    """Latitude and longitude between commas."""
    lat, lon = text.split(",")
    return {"lat": float(lat), "lon": float(lon)}


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError(text)
    return _TRUTHS[text.lower()]
