"""The triplet store's services on memory stores, and short ways to call them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from trine.triplets.v1 import (
    label_service_pb2,
    label_service_pb2_grpc,
    outcome_service_pb2,
    outcome_service_pb2_grpc,
    schema_service_pb2,
    schema_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)

from services.chassis.artifacts import ObjectArtifacts, memory_artifacts
from services.chassis.clock import SystemClock
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.errors import EncoderUnavailableError
from services.triplets.core.extraction.extract import Extractor
from services.triplets.memory import MemoryTripletStore
from services.triplets.rpc.errors import ERRORS
from services.triplets.wiring import NAMES, register
from tests.support.places import MemoryGazetteer
from tests.support.server import ACME, running

FIELDS: list[dict[str, object]] = [
    {"name": "age", "kind": "hard", "type": "integer", "required": True},
    {"name": "goal", "kind": "hard", "type": "enum", "members": ["fun", "love"]},
    {"name": "city", "kind": "hard", "type": "string"},
    {"name": "taste", "kind": "derived", "type": "number"},
    {"name": "about", "kind": "soft", "type": "string"},
]


class Encoder:
    """Gives a text a vector by its length, unless it is broken."""

    name = "test"
    dim = 2

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.broken = False

    async def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        vectors, _ = await self.encode_counted(texts)
        return vectors

    async def encode_counted(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.float16], list[int]]:
        if self.broken:
            raise EncoderUnavailableError
        self.texts += texts
        angles = np.array([len(text) for text in texts]) / 1_000
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
        return vectors, [len(text.split()) for text in texts]


@dataclass
class Store:
    """The service and its stubs."""

    channel: grpc.aio.Channel
    encoder: Encoder
    artifacts: ObjectArtifacts

    async def put_schema(self, metadata: Any = ACME, **changes: object) -> Any:
        """Declares the schema above, changed."""
        content = {"domain": "dating", "fields": FIELDS} | changes
        request = schema_service_pb2.PutSchemaRequest()
        json_format.ParseDict({"schema": content}, request)
        stub = schema_service_pb2_grpc.SchemaServiceStub(self.channel)
        return await stub.PutSchema(request, metadata=metadata)

    def upsert(self, user_id: str, metadata: Any = ACME, **content: object) -> Any:
        """Brings a person in."""
        request = user_service_pb2.UpsertUserRequest()
        json_format.ParseDict({"user_id": user_id, "domain": "dating", **content}, request)
        stub = user_service_pb2_grpc.UserServiceStub(self.channel)
        return stub.UpsertUser(request, metadata=metadata)

    def get(self, user_id: str, domain: str = "dating", metadata: Any = ACME) -> Any:
        """Reads a person."""
        request = user_service_pb2.GetUserRequest(user_id=user_id, domain=domain)
        return user_service_pb2_grpc.UserServiceStub(self.channel).GetUser(
            request, metadata=metadata
        )

    def append(self, user_id: str, content: str, metadata: Any = ACME, **more: object) -> Any:
        """Appends a context."""
        request = user_service_pb2.AppendContextRequest()
        whole = {"user_id": user_id, "domain": "dating", "content": content, **more}
        json_format.ParseDict(whole, request)
        stub = user_service_pb2_grpc.UserServiceStub(self.channel)
        return stub.AppendContext(request, metadata=metadata)

    def delete(
        self, user_id: str, domain: str = "dating", metadata: Any = ACME, **more: Any
    ) -> Any:
        """Erases a person."""
        request = user_service_pb2.DeleteUserRequest(user_id=user_id, domain=domain, **more)
        stub = user_service_pb2_grpc.UserServiceStub(self.channel)
        return stub.DeleteUser(request, metadata=metadata)

    def report(self, *items: dict[str, object], metadata: Any = ACME, **content: object) -> Any:
        """Reports outcomes."""
        request = outcome_service_pb2.ReportOutcomesRequest()
        json_format.ParseDict({"domain": "dating", "items": items, **content}, request)
        stub = outcome_service_pb2_grpc.OutcomeServiceStub(self.channel)
        return stub.ReportOutcomes(request, metadata=metadata)

    def put_labels(self, *labels: dict[str, object], domain: str = "dating") -> Any:
        """Registers labels."""
        request = label_service_pb2.PutLabelsRequest()
        json_format.ParseDict({"domain": domain, "label_set": {"labels": labels}}, request)
        return label_service_pb2_grpc.LabelServiceStub(self.channel).PutLabels(
            request, metadata=ACME
        )

    async def fill(self, count: int = 5) -> None:
        """Declares the schema and brings u0, u1 and so on in."""
        await self.put_schema()
        for number in range(count):
            await self.upsert(f"u{number}", fields={"age": 20 + number})


def outcome(seeker: str, candidate: str, label: str, **content: object) -> dict[str, object]:
    """One item of a report."""
    return {"seeker_id": seeker, "candidate_id": candidate, "outcome": label, **content}


@asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    """The service with nothing in it."""
    encoder, artifacts, memory = Encoder(), memory_artifacts(), MemoryTripletStore()

    def add(server: grpc.aio.Server) -> None:
        extractor = Extractor(encoder, MemoryGazetteer())
        writer = SafetensorsSnapshots(artifacts)
        register(server, memory, encoder, writer, SystemClock(), extractor=extractor)

    async with running(ERRORS, add, NAMES) as channel:
        yield Store(channel, encoder, artifacts)
