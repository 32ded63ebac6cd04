"""Bodies that no client sends by itself, for whatever takes files: name, headers, content."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from tests.support.mesh import Mesh
from tests.support.storm import INSIDES

BOUNDARY = "frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
LINE = b'{"anchor": "a", "positive": "b", "negative": "c"}\n'
PARTS_MANY = 100_000
TAKING = (
    *("/v1/files", "/v1/uploads", "/v1/uploads/upload_0/parts", "/v1/fine_tuning/jobs"),
    *("/api/llm/files", "/v0.5/files", "/api/files", "/v0.5/fine-tune/jobs", "/v1/webhooks"),
    *("/v0.5/files/uploads/initiate", "/v1/embeddings", "/v1/rerank", "/v1/feedback", "/v1/match"),
)
"""Paths of every dialect that take a body."""
NAMES = (
    *("../../etc/passwd", "..", ".", "/etc/passwd", "C:\\boot.ini", "a\0b", "", " ", "a/b.jsonl"),
    *("x" * 10_000, "\u202egnp.jsonl", "\ud7ff", 'a";filename="b', "%2e%2e%2fa", "a\tb", "con"),
)
CONTENT_TYPES = (
    *("", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "multipart/x"),
    *(f"multipart/form-data; boundary={'b' * 5_000}", 'multipart/form-data; boundary="', "a/b/c"),
    *("application/json", "application/json; charset=utf-7", f"{FORM}; charset=klingon", "\x7f"),
)


@dataclass(frozen=True)
class Body:
    """One request's body."""

    name: str
    content_type: str
    content: bytes
    encoding: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What is said of the body."""
        said = {"content-type": self.content_type, "content-encoding": self.encoding}
        return {name: value for name, value in said.items() if value}


def part(headers: bytes, content: bytes) -> bytes:
    """A part of a form."""
    return b"--" + BOUNDARY.encode() + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: bytes = LINE, more: bytes = b"") -> bytes:
    """A field of a form."""
    return part(b'content-disposition: form-data; name="' + name.encode() + b'"' + more, content)


def file(filename: bytes, name: str = "file", content: bytes = LINE) -> bytes:
    """A file of a form, by a name that is put in as it is."""
    return field(name, content, b'; filename="' + filename + b'"')


END = b"--" + BOUNDARY.encode() + b"--\r\n"
PURPOSE = field("purpose", b"fine-tune")


def hostile_bodies() -> Iterator[Body]:
    """All of them."""
    whole = PURPOSE + file(b"a.jsonl")
    for name in NAMES:
        content = PURPOSE + file(name.encode()) + END
        yield Body(f"named {name[:20]!r}", FORM, content)
    for content_type in CONTENT_TYPES:
        yield Body(f"said to be {content_type[:40]!r}", content_type, whole + END)
    yield from (
        Body("nothing", FORM, b""),
        Body("only an end", FORM, END),
        Body("no end", FORM, whole),
        Body("half a part", FORM, whole[:-40]),
        Body("a name with a line's end", FORM, PURPOSE + file(b"a\r\nx-evil: 1\r\n\r\nb") + END),
        Body("a field without a name", FORM, part(b"content-disposition: form-data", b"") + END),
        Body("a part without headers", FORM, part(b"", LINE) + END),
        Body("a long header", FORM, part(b"x: " + b"y" * 100_000, LINE) + END),
        Body("many headers", FORM, part(b"x: y\r\n" * 10_000 + b"z: 1", LINE) + END),
        Body("two files", FORM, whole + file(b"b.jsonl") + END),
        Body("two purposes", FORM, PURPOSE + whole + END),
        Body("a long purpose", FORM, field("purpose", b"x" * 2_000_000) + file(b"a") + END),
        Body("a purpose that is no text", FORM, field("purpose", b"\xff\xfe") + file(b"a") + END),
        Body("an unknown field", FORM, field("nobody", b"x") + whole + END),
        Body("many parts", FORM, field("x", b"") * PARTS_MANY + END),
        Body("a form in a form", FORM, field("file", whole + END) + END),
        Body("base64 that is none", FORM, _encoded(b"base64") + END),
        Body("an unknown transfer encoding", FORM, _encoded(b"rot13") + END),
        Body("gzip that is none", FORM, whole + END, "gzip"),
        Body("a deflated bomb", FORM, zlib.compress(PURPOSE + b"\0" * 50_000_000), "deflate"),
        Body("an unknown encoding", FORM, whole + END, "br, zstd, x"),
        Body("JSON, nested", "application/json", b"[" * 100_000),
        Body("JSON, a number too long", "application/json", b'{"a": 1' + b"0" * 100_000 + b"}"),
        Body("JSON, not UTF-8", "application/json", b'{"model": "\xff"}'),
        Body("JSON, half a character", "application/json", b'{"model": "\\ud800"}'),
        Body("JSON, keys twice", "application/json", b'{"model": "a", "model": {"b": 1}}'),
        Body("JSON, a list", "application/json", b'[{"model": 1}]'),
        Body("JSON, not a number", "application/json", b'{"model": NaN, "seed": Infinity}'),
        Body(
            "JSON, NUL", "application/json", b'{"model": "a\\u0000b", "training_file": "\\u0000"}'
        ),
    )


def _encoded(encoding: bytes) -> bytes:
    more = b'; filename="a"\r\ncontent-transfer-encoding: ' + encoding
    return PURPOSE + field("file", b"!!! not it !!!", more)


def complaint(mesh: Mesh, path: str, body: Body) -> str:
    """Sends a body and says what is wrong with the answer; "" if nothing is."""
    try:
        answer = mesh.http.post(path, headers=body.headers, content=body.content)
    except (httpx.WriteError, httpx.RemoteProtocolError):
        return ""  # the other side may stop reading once it has seen enough
    wrong = answer.status_code >= 500 or INSIDES.search(answer.text)
    return f"{answer.status_code} {answer.text[:300]}" if wrong else ""
