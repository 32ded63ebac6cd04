"""Every public RPC, made from the descriptors, with a stranger's ids in each place that takes one.

A field that names nothing known fails the tests until it is entered below: nothing is forgotten.
"""

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import trine.gateway.v1.authorization_pb2 as authorization
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

GEN = Path(authorization.__file__).parents[3]

KINDS = {
    "domain": "domain",
    "user_id": "user",
    "user_ids": "user",
    "seeker_id": "user",
    "candidate_id": "candidate",
    "exclude": "user",
    "run_id": "run",
    "head": "head",
    "other": "head",
    "rollout_id": "rollout",
    "match_id": "match",
    "page_token": "run",
}
"""Fields that name something of a tenant's, and of what kind."""

FREE = {
    "content": "something",
    "context": "something",
    "description": "",
    "kind": "hard",
    "level": "accepted",
    "memory_ref": "",
    "name": "age",
    "outcome": "accepted",
    "priority": "",
    "request_id": "",
    "source": "chat",
    "template": "dating",
    "type": "integer",
}
"""Fields that name nothing of a tenant's, and something that fits."""

LEFT_OUT = {"embedding", "members"}
"""What fits only with another value beside it."""

MISSING = ""
MALFORMED = ("*", "kept,prowler", "_shared", "../kept", "%' or 1=1 --", "x" * 300, "a\0b", "💥")
"""No ids; some are words of how tenants are kept apart."""


@dataclass(frozen=True)
class Case:
    """A request of a method with something in the place of an id.

    Attributes:
        what: "foreign", "missing" or "malformed".
    """

    method: MethodDescriptor
    what: str
    request: Message

    def __str__(self) -> str:
        return f"{self.method.full_name} {self.what} {self.request}"

    @property
    def path(self) -> str:
        """The RPC's name on the wire."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def methods() -> list[MethodDescriptor]:
    """All RPCs of all services."""
    names = (path.relative_to(GEN).with_suffix("") for path in GEN.rglob("*_service_pb2.py"))
    modules = [importlib.import_module(".".join(name.parts)) for name in sorted(names)]
    services = [s for module in modules for s in module.DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


def scope_of(method: MethodDescriptor) -> str:
    """The scope that an RPC needs; none for an internal one."""
    return str(method.GetOptions().Extensions[authorization.required_scope])


def places(message: Descriptor, *above: FieldDescriptor) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The way to each string of a request, through its messages."""
    for field in message.fields:
        told = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field.name in LEFT_OUT or field in above or field_behavior_pb2.OUTPUT_ONLY in told:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*above, field)
        elif field.message_type is not None and not _is_well_known(field.message_type):
            yield from places(field.message_type, *above, field)


def _is_well_known(message: Descriptor) -> bool:
    return message.GetOptions().map_entry or message.file.package.startswith("google.")


def cases(
    method: MethodDescriptor, own: Mapping[str, str], theirs: Mapping[str, str]
) -> list[Case]:
    """What a stranger may try: each id theirs, then one at a time theirs, missing or malformed."""
    ways = list(places(method.input_type))
    named = [way for way in ways if way[-1].name in KINDS]
    tried = [Case(method, "foreign", build(method, ways, theirs))]
    for way in named:
        kind = KINDS[way[-1].name]
        # A page's token is a place in an order, and no other is a token at all.
        what = "malformed" if way[-1].name == "page_token" else "foreign"
        tried.append(Case(method, what, build(method, ways, own, way, theirs[kind])))
        tried.append(Case(method, "missing", build(method, ways, own, way, MISSING)))
        tried += [
            Case(method, "malformed", build(method, ways, own, way, text)) for text in MALFORMED
        ]
    return tried


def kinds_cases(method: MethodDescriptor, theirs: Mapping[str, str]) -> list[Case]:
    """In each place an id of each other kind."""
    ways = list(places(method.input_type))
    return [
        Case(method, "malformed", build(method, ways, theirs, way, value))
        for way in ways
        if way[-1].name in KINDS
        for value in set(theirs.values())
    ]


def build(
    method: MethodDescriptor,
    ways: Sequence[tuple[FieldDescriptor, ...]],
    ids: Mapping[str, str],
    changed: tuple[FieldDescriptor, ...] = (),
    value: str = "",
) -> Message:
    """A request whose strings fit their places, but for one of them."""
    request: Message = GetMessageClass(method.input_type)()
    for way in ways:
        name = way[-1].name
        text = value if way == changed else ids[KINDS[name]] if name in KINDS else FREE[name]
        if name == "page_token" and way != changed:
            continue
        inside: Any = request
        for field in way[:-1]:
            inside = getattr(inside, field.name)
            if field.is_repeated:
                inside = inside[0] if len(inside) else inside.add()
        if way[-1].is_repeated:
            getattr(inside, name).append(text)
        else:
            setattr(inside, name, text)
    return request


def rest_call(case: Case) -> tuple[str, str, Any] | None:
    """The case over REST: verb, path with query, body; None for an RPC that has no path."""
    rule = case.method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if verb is None:
        return None
    content = MessageToDict(case.request, preserving_proto_field_name=True)

    def fill(found: re.Match[str]) -> str:
        return quote(str(content.pop(found[1], "")), safe="")

    path = re.sub(r"\{(\w+)\}", fill, getattr(rule, verb))
    body = None
    if rule.body == "*":
        body, content = content, {}
    elif rule.body:
        body = content.pop(rule.body, {})
    query = {name: value for name, value in content.items() if not isinstance(value, dict)}
    return verb.upper(), f"{path}?{urlencode(query, doseq=True)}", body
