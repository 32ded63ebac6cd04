"""SchemaService: schemas between wire and core."""

from trine.triplets.v1 import schema_pb2, schema_service_pb2, schema_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.triplets.core.errors import DomainNotFoundError, FieldInvalidError
from services.triplets.core.ports import Encoder, TripletStore
from services.triplets.core.put_schema import preview_schema, put_schema
from services.triplets.core.schema import CALLER, Field, Schema
from services.triplets.core.schema_change import SchemaChange
from services.triplets.core.schema_templates import TEMPLATES, SchemaTemplate, find_template


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
        wanted = _schema_from_proto(request.schema, self._encoder)
        put = preview_schema if request.validate_only else put_schema
        schema, change = await put(self._store, current_tenant(), wanted)
        answer = schema_to_proto(schema)
        answer.change.CopyFrom(_change_to_proto(change))
        return answer

    async def ListSchemaTemplates(
        self, request: schema_service_pb2.ListSchemaTemplatesRequest, context: Context
    ) -> schema_service_pb2.ListSchemaTemplatesResponse:
        return schema_service_pb2.ListSchemaTemplatesResponse(
            schema_templates=[self._template(template) for template in TEMPLATES]
        )

    async def GetSchemaTemplate(
        self, request: schema_service_pb2.GetSchemaTemplateRequest, context: Context
    ) -> schema_service_pb2.SchemaTemplate:
        return self._template(find_template(request.template))

    def _template(self, template: SchemaTemplate) -> schema_service_pb2.SchemaTemplate:
        schema = Schema(
            domain=template.name,
            number=1,
            fields=template.fields,
            encoder=self._encoder.name,
            dim=self._encoder.dim,
            reciprocal=template.reciprocal,
        )
        return schema_service_pb2.SchemaTemplate(
            template=template.name,
            description=template.description,
            schema=schema_to_proto(schema),
        )


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
                member_descriptions=dict(field.member_descriptions),
            )
            for field in schema.fields
        ],
        embedding=schema_pb2.Schema.Embedding(encoder=schema.encoder, dim=schema.dim),
        reciprocal=schema.reciprocal,
    )


def _change_to_proto(change: SchemaChange) -> schema_pb2.Schema.Change:
    return schema_pb2.Schema.Change(
        applied=change.applied,
        created=change.created,
        previous_version=change.previous_version,
        added_fields=change.added_fields,
        added_members=change.added_members,
        reworded_fields=change.reworded_fields,
        reciprocal_changed=change.reciprocal_changed,
        heads_stay_valid=True,  # whatever would break them is refused: see core/schema.py
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
                member_descriptions=tuple(sorted(field.member_descriptions.items())),
            )
            for field in message.fields
        ),
        encoder=name,
        dim=dim,
        reciprocal=message.reciprocal,
    )
