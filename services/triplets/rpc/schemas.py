"""SchemaService: schemas between wire and core."""

from trine.triplets.v1 import schema_pb2, schema_service_pb2, schema_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.triplets.core.errors import DomainNotFoundError, FieldInvalidError
from services.triplets.core.ports import Encoder, TripletStore
from services.triplets.core.put_schema import put_schema
from services.triplets.core.schema import CALLER, Field, Schema


class SchemaServicer(schema_service_pb2_grpc.SchemaServiceServicer):
    """Reads and declares schemas."""

    def __init__(self, store: TripletStore, encoder: Encoder) -> None:
        self._store = store
        self._encoder = encoder

    async def GetSchema(
        self, request: schema_service_pb2.GetSchemaRequest, context: Context
    ) -> schema_pb2.Schema:
        schema = await self._store.read_schema(current_tenant(), request.domain)
        if schema is None:
            raise DomainNotFoundError(request.domain)
        return schema_to_proto(schema)

    async def PutSchema(
        self, request: schema_service_pb2.PutSchemaRequest, context: Context
    ) -> schema_pb2.Schema:
        schema = _schema_from_proto(request.schema, self._encoder)
        return schema_to_proto(await put_schema(self._store, current_tenant(), schema))


def schema_to_proto(schema: Schema) -> schema_pb2.Schema:
    """A schema as callers and serving read it."""
    return schema_pb2.Schema(
        domain=schema.domain,
        version=schema.version,
        fields=[
            schema_pb2.Schema.Field(
                name=field.name,
                kind=field.kind,
                type=field.type,
                required=field.required,
                priority=field.priority,
                members=field.members,
                description=field.description,
            )
            for field in schema.fields
        ],
        embedding=schema_pb2.Schema.Embedding(encoder=schema.encoder, dim=schema.dim),
        reciprocal=schema.reciprocal,
    )


def _schema_from_proto(message: schema_pb2.Schema, encoder: Encoder) -> Schema:
    name = message.embedding.encoder or encoder.name
    if name not in (encoder.name, CALLER):
        raise FieldInvalidError("embedding.encoder", f"must be {encoder.name} or {CALLER}")
    dim = message.embedding.dim if name == CALLER else encoder.dim
    if message.embedding.dim not in (0, dim):
        raise FieldInvalidError("embedding.dim", f"must be {dim} for {name}")
    return Schema(
        domain=message.domain,
        number=1,
        fields=tuple(
            Field(
                name=field.name,
                kind=field.kind,
                type=field.type,
                required=field.required,
                priority=field.priority or "medium",
                members=tuple(field.members),
                description=field.description,
            )
            for field in message.fields
        ),
        encoder=name,
        dim=dim,
        reciprocal=message.reciprocal,
    )
