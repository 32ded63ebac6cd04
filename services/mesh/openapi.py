"""The public API as an OpenAPI 3.1 document, made of the contracts' HTTP annotations and comments.

JSON is as Envoy's transcoder writes it: fields under their proto names, values without presence
always there, 64-bit integers as strings.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from google.api import annotations_pb2, field_behavior_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from trine.gateway.v1 import authorization_pb2

Json = dict[str, Any]
Places = dict[tuple[int, ...], str]
"""Comments by their paths in a file."""

_FIELD, _NESTED = 2, 3
_MESSAGE, _SERVICE, _METHOD = 4, 6, 2
"""Field numbers in descriptor.proto: paths to comments are made of them."""

_SCALARS: dict[int, Json] = {
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_UINT64: {"type": "string", "format": "uint64"},
}
_WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Duration": {"type": "string", "examples": ["1.5s"]},
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Value": {},
}
_ERROR: Json = {
    "type": "object",
    "description": "google.rpc.Status with one google.rpc.ErrorInfo.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "A gRPC status code."},
        "message": {"type": "string", "description": "What is wrong, in words."},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["@type", "reason", "domain", "metadata"],
                "properties": {
                    "@type": {"type": "string"},
                    "reason": {"type": "string", "description": "One of a fixed list."},
                    "domain": {"type": "string"},
                    "metadata": {
                        "type": "object",
                        "description": 'More of it by name: "field" is the field that is wrong.',
                        "additionalProperties": {"type": "string"},
                    },
                },
            },
        },
    },
}


def make_document(contracts: FileDescriptorSet, version: str) -> Json:
    """Describes every method that has an HTTP annotation. The contracts come with source info."""
    return _Writer(contracts).document(version)


class _Writer:
    """Walks the contracts and collects the messages that the methods need."""

    def __init__(self, contracts: FileDescriptorSet) -> None:
        self._files = [file for file in contracts.file if file.package.startswith("trine.")]
        self._comments: dict[str, str] = {}
        self._messages: dict[str, DescriptorProto] = {}
        self._enums: dict[str, EnumDescriptorProto] = {}
        for file in self._files:
            self._index(file)
        self._schemas: Json = {"Error": _ERROR}
        self._named: dict[str, str] = {}

    def document(self, version: str) -> Json:
        """The whole document."""
        paths: dict[str, Json] = {}
        for service, method, name in self._methods():
            verb, path = _verb_and_path(method.options.Extensions[annotations_pb2.http])
            operation = self._operation(service, method, name)
            paths.setdefault(path, {})[verb] = operation
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Trine",
                "version": version,
                "description": "Learns from outcomes whom to bring together.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"key": []}],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted(self._schemas.items())),
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }

    def _methods(self) -> Iterator[tuple[ServiceDescriptorProto, MethodDescriptorProto, str]]:
        for file in self._files:
            for service in file.service:
                for method in service.method:
                    if method.options.HasExtension(annotations_pb2.http):
                        yield service, method, f".{file.package}.{service.name}.{method.name}"

    def _operation(
        self, service: ServiceDescriptorProto, method: MethodDescriptorProto, name: str
    ) -> Json:
        rule = method.options.Extensions[annotations_pb2.http]
        _, path = _verb_and_path(rule)
        request = self._messages[method.input_type]
        in_path = [field for field in request.field if f"{{{field.name}}}" in path]
        rest = [field for field in request.field if field not in in_path]
        body = rest if rule.body == "*" else [field for field in rest if field.name == rule.body]
        query = [field for field in rest if field not in body]
        comment = self._comments[name]
        scope = method.options.Extensions[authorization_pb2.required_scope]
        operation: Json = {
            "operationId": method.name,
            "tags": [service.name.removesuffix("Service")],
            "summary": comment.partition(". ")[0].removesuffix("."),
            "description": f"{comment} Needs the scope `{scope}`.",
            "parameters": [
                self._parameter(method.input_type, field, place)
                for place, fields in (("path", in_path), ("query", query))
                for field in fields
            ],
            "responses": {
                "200": self._answer(method),
                "default": {
                    "description": "What went wrong.",
                    "content": _json({"$ref": "#/components/schemas/Error"}),
                },
            },
        }
        if rule.body:
            schema = (
                self._object(method.input_type, body) if rule.body == "*" else self._value(body[0])
            )
            operation["requestBody"] = {"required": True, "content": _json(schema)}
        return operation

    def _answer(self, method: MethodDescriptorProto) -> Json:
        schema = {"$ref": self._reference(method.output_type)}
        if method.server_streaming:
            return {"description": "One JSON object a line.", "content": _json(schema)}
        return {"description": "Done.", "content": _json(schema)}

    def _parameter(self, message: str, field: FieldDescriptorProto, place: str) -> Json:
        return {
            "name": field.name,
            "in": place,
            "required": place == "path" or _is(field, field_behavior_pb2.REQUIRED),
            "description": self._comments[f"{message}.{field.name}"],
            "schema": self._value(field),
        }

    def _object(self, message: str, fields: Iterable[FieldDescriptorProto]) -> Json:
        properties: Json = {}
        required: list[str] = []
        for field in fields:
            read_only = _is(field, field_behavior_pb2.OUTPUT_ONLY)
            comment = self._comments[f"{message}.{field.name}"]
            properties[field.name] = self._value(field) | {"description": comment}
            if read_only:
                properties[field.name]["readOnly"] = True
            if _is(field, field_behavior_pb2.REQUIRED) or (read_only and not _has_presence(field)):
                required.append(field.name)
        found: Json = {"type": "object", "properties": properties}
        return found | {"required": required} if required else found

    def _value(self, field: FieldDescriptorProto) -> Json:
        if field.label != FieldDescriptorProto.LABEL_REPEATED:
            return self._single(field)
        message = self._messages.get(field.type_name)
        if message is not None and message.options.map_entry:
            return {"type": "object", "additionalProperties": self._single(message.field[1])}
        return {"type": "array", "items": self._single(field)}

    def _single(self, field: FieldDescriptorProto) -> Json:
        if field.type == FieldDescriptorProto.TYPE_ENUM:
            return {"type": "string", "enum": [v.name for v in self._enums[field.type_name].value]}
        if field.type != FieldDescriptorProto.TYPE_MESSAGE:
            return dict(_SCALARS[field.type])
        if field.type_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[field.type_name])
        return {"$ref": self._reference(field.type_name)}

    def _reference(self, message: str) -> str:
        """Where a message is described; describes it when it is first met."""
        name = message.split(".v1.", 1)[1]
        if self._named.setdefault(name, message) != message:
            raise ValueError(f"{message} and {self._named[name]} have one name")
        if name not in self._schemas:
            self._schemas[name] = {}  # a message may hold itself
            self._schemas[name] = self._object(message, self._messages[message].field)
            if self._comments[message]:
                self._schemas[name]["description"] = self._comments[message]
        return f"#/components/schemas/{name}"

    def _index(self, file: FileDescriptorProto) -> None:
        places = {
            tuple(place.path): place.leading_comments for place in file.source_code_info.location
        }
        for number, message in enumerate(file.message_type):
            name = f".{file.package}.{message.name}"
            self._index_message(places, (_MESSAGE, number), name, message)
        for enum in file.enum_type:
            self._enums[f".{file.package}.{enum.name}"] = enum
        for number, service in enumerate(file.service):
            for place, method in enumerate(service.method):
                name = f".{file.package}.{service.name}.{method.name}"
                self._comments[name] = _words(places, (_SERVICE, number, _METHOD, place))

    def _index_message(
        self, places: Places, path: tuple[int, ...], name: str, message: DescriptorProto
    ) -> None:
        self._messages[name] = message
        self._comments[name] = _words(places, path)
        for number, field in enumerate(message.field):
            self._comments[f"{name}.{field.name}"] = _words(places, (*path, _FIELD, number))
        for number, nested in enumerate(message.nested_type):
            path_there = (*path, _NESTED, number)
            self._index_message(places, path_there, f"{name}.{nested.name}", nested)
        for enum in message.enum_type:
            self._enums[f"{name}.{enum.name}"] = enum


def _words(places: Places, path: tuple[int, ...]) -> str:
    """The comment at a place, on one line."""
    return " ".join(places.get(path, "").split())


def _verb_and_path(rule: HttpRule) -> tuple[str, str]:
    verb = rule.WhichOneof("pattern") or ""
    return verb, getattr(rule, verb)


def _is(field: FieldDescriptorProto, behavior: field_behavior_pb2.FieldBehavior) -> bool:
    return behavior in field.options.Extensions[field_behavior_pb2.field_behavior]


def _has_presence(field: FieldDescriptorProto) -> bool:
    """Whether the field may be missing in an answer; all others are always printed."""
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE and not repeated
    return is_message or field.proto3_optional


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
