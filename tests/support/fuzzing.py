"""Messages that nobody would send on purpose, for every RPC that the contracts declare.

A seed gives the same calls each time: fields are filled from the descriptors with values that are
almost right or far out, and a part of the messages is damaged on the wire.
"""

import importlib
import math
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trine
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

from services.chassis.auth import required_scope

DEPTH_MAX = 5
DAMAGED_SHARE = 0.25
WORDS: tuple[str, ...] = (
    *("", "people", "nobody", "u1", "u2", "accepted", "rejected", "age", "goal", "fun", "dating"),
    *("demo", "other", "_shared", "trine-general", "run_1", "file-1", "ftjob-1", "*", "%", "_"),
    *("\0", "a\0b", "a\nb", "\r\n", "\t", " ", "..", "../../etc/passwd", "a/b", "a:b", "{}", "[]"),
    *("'; drop table users; --", '"', "\\", "%s%n", "${x}", "null", "true", "-1", "1e999", "NaN"),
    *("\u202e\ufeff", "\U0001f600" * 50, "ü" * 300, "x" * 5_000, "0" * 64, "f" * 64, "1" * 20),
    *("2026-02-30T25:61:61Z", "https://127.0.0.1:1/", "{" * 500, "age > 1", "\ud7ff", "\uffff"),
)
LIKELY = {
    "tenant": "demo",
    "domain": "people",
    "user_id": "u1",
    "seeker_id": "u1",
    "candidate_id": "u2",
    "outcome": "accepted",
}
"""What a field holds more often than not, so that calls get past the first question."""
LIKELY_SHARE = 0.7
WHOLE = (0, 1, 2, 7, 100, 1_000, 10_000, 2**31 - 1)
REAL = (0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), 90.1, -180.5)
LENGTHS = (0, 1, 1, 1, 2, 3, 40)
_FIELD = FieldDescriptor
_WIDTHS = {
    _FIELD.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _FIELD.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _FIELD.CPPTYPE_UINT32: (0, 2**32 - 1),
    _FIELD.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True)
class Method:
    """One RPC."""

    path: str
    """As gRPC names it: /package.Service/Method."""
    descriptor: MethodDescriptor

    @property
    def service(self) -> str:
        """Who serves it: gateway, scheduler…; chassis for what each of them serves."""
        return self.path.split(".")[1]

    @property
    def internal(self) -> bool:
        """Whether only the mesh itself may call it."""
        return not required_scope(self.path)


def list_methods() -> list[Method]:
    """Every RPC of the contracts, by path."""
    (root,) = (Path(folder) for folder in trine.__path__)
    modules = (".".join(path.relative_to(root.parent).parts) for path in root.rglob("*_pb2.py"))
    files = [importlib.import_module(name.removesuffix(".py")).DESCRIPTOR for name in modules]
    return sorted((method for file in files for method in _methods_of(file)), key=lambda m: m.path)


def _methods_of(file: FileDescriptor) -> Iterator[Method]:
    for service in file.services_by_name.values():
        for method in service.methods:
            yield Method(f"/{service.full_name}/{method.name}", method)


class Fuzzer:
    """Makes messages from a seed."""

    def __init__(self, seed: int, words: Sequence[str] = ()) -> None:
        self.random = random.Random(seed)
        self._words = (*WORDS, *words)

    def make(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message of a type, filled at random."""
        message = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self.random.random() < 0.8 / (1 + depth / 2) and depth < DEPTH_MAX:
                self._fill(message, field, depth)
        return message

    def wire(self, descriptor: Descriptor) -> bytes:
        """A message as bytes; some are damaged."""
        content = self.make(descriptor).SerializeToString()
        return self.damage(content) if self.random.random() < DAMAGED_SHARE else content

    def damage(self, content: bytes) -> bytes:
        """Bytes with something flipped, cut, repeated or put in."""
        at = self.random.randrange(len(content) + 1)
        change: Callable[[], bytes] = self.random.choice(
            (
                lambda: content[:at],
                lambda: content[:at] + self.random.randbytes(4) + content[at:],
                lambda: content[:at] + bytes([self.random.randrange(256)]) + content[at + 1 :],
                lambda: content[at:] + content,
                lambda: content + struct.pack("<BQ", 0x0A, 2**63),
            )
        )
        return change()

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if not field.is_repeated:
            if field.message_type:
                getattr(message, field.name).CopyFrom(self.make(field.message_type, depth + 1))
            else:
                setattr(message, field.name, self._value(field))
            return
        length = self.random.choice(LENGTHS)
        target: Any = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            for _ in range(length):
                if value.message_type:
                    made = self.make(value.message_type, depth + 1)
                    target[self._value(key)].CopyFrom(made)
                else:
                    target[self._value(key)] = self._value(value)
        elif field.message_type:
            target.extend(self.make(field.message_type, depth + 1) for _ in range(length))
        else:
            target.extend(self._value(field) for _ in range(length))

    def _value(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind in _WIDTHS:
            low, high = _WIDTHS[kind]
            values: Sequence[Any] = (*WHOLE, low, high, self.random.randint(low, high))
        elif kind == _FIELD.CPPTYPE_STRING:
            values = self._texts(field)
        else:
            values = {
                _FIELD.CPPTYPE_DOUBLE: REAL,
                _FIELD.CPPTYPE_FLOAT: [value for value in REAL if not 3e38 < abs(value) < math.inf],
                _FIELD.CPPTYPE_BOOL: (False, True),
                _FIELD.CPPTYPE_ENUM: (0, 1, 2, 3, 99, -1),
            }[kind]
        return self.random.choice(values)

    def _texts(self, field: FieldDescriptor) -> Sequence[Any]:
        if field.type == _FIELD.TYPE_BYTES:
            return [self.random.randbytes(length) for length in (0, 1, 32, 1_000)]
        if field.name in LIKELY and self.random.random() < LIKELY_SHARE:
            return [LIKELY[field.name]]
        return self._words
