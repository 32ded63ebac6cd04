"""Files and uploads as the unmodified openai client sees them, through Envoy."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.clients import OPENAI, TRUEFOUNDRY, client_of, new_key
from tests.support.mesh import Json, Mesh

LINES = b'{"anchor": "a", "positive": "b", "negative": "c"}\n' * 20
BIG_BYTES = 96 * 1024**2
RSS_GROWTH_BYTES_MAX = 48 * 1024**2


@pytest.fixture(scope="module", params=[OPENAI, TRUEFOUNDRY])
def client(request: pytest.FixtureRequest, mesh: Mesh) -> Iterator[openai.OpenAI]:
    """A client of each dialect."""
    with client_of(mesh, request.param) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(mesh: Mesh) -> Iterator[openai.OpenAI]:
    """A client of another tenant."""
    with client_of(mesh, key=new_key(mesh, "stranger")) as made:
        yield made


def test_a_file_comes_back_as_it_was_sent(client: openai.OpenAI) -> None:
    before = int(time.time())
    sent = client.files.create(
        file=("lines.jsonl", LINES),
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    assert sent.id.startswith("file-")
    assert (sent.object, sent.filename, sent.purpose) == ("file", "lines.jsonl", "fine-tune")
    assert sent.bytes == len(LINES)
    assert before <= sent.created_at <= time.time()
    assert sent.expires_at == sent.created_at + 3_600
    assert client.files.retrieve(sent.id) == sent
    assert client.files.wait_for_processing(sent.id).status == "processed"
    assert client.files.content(sent.id).read() == LINES
    deleted = client.files.delete(sent.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (sent.id, "file", True)
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(sent.id)
    assert caught.value.code == "file_not_found"
    assert caught.value.request_id


def test_files_are_listed_page_by_page(mesh: Mesh) -> None:
    with client_of(mesh, key=new_key(mesh, "filer")) as client:
        sent = [
            client.files.create(file=(f"{index}.txt", b"x"), purpose=purpose).id
            for index in range(5)
            for purpose in (("user_data", "evals") if index == 4 else ("user_data",))
        ]
        wanted = sorted(sent, reverse=True)
        assert sorted(sent) == [file.id for file in client.files.list(limit=2, order="asc")]
        pages = list(client.files.list(limit=2).iter_pages())
        assert [[file.id for file in page.data] for page in pages] == [
            wanted[0:2],
            wanted[2:4],
            wanted[4:6],
        ]
        assert [page.has_more for page in pages] == [True, True, False]
        told = pages[0].to_dict()
        assert (told["first_id"], told["last_id"]) == (wanted[0], wanted[1])
        (evals,) = client.files.list(purpose="evals")
        assert evals.filename == "4.txt"
        for file in client.files.list(limit=2):  # deleting while listing loses none
            client.files.delete(file.id)
        assert client.files.list().data == []


def test_an_upload_in_parts_becomes_a_file(client: openai.OpenAI) -> None:
    upload = client.uploads.create(
        bytes=len(LINES) * 2,
        filename="parts.jsonl",
        mime_type="text/jsonl",
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 7_200},
    )
    assert (upload.status, upload.file) == ("pending", None)
    assert upload.expires_at == upload.created_at + 3_600
    parts = [
        client.uploads.parts.create(upload.id, data=data).id for data in (LINES, b"?", LINES[::-1])
    ]
    order = [parts[2], parts[0]]
    md5 = hashlib.md5(LINES[::-1] + LINES, usedforsecurity=False).hexdigest()
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=order, md5="0" * 32)
    with pytest.raises(openai.BadRequestError) as caught:
        client.uploads.complete(upload.id, part_ids=parts)
    assert caught.value.param == "part_ids"
    done = client.uploads.complete(upload.id, part_ids=order, md5=md5)
    assert done.status == "completed"
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 7_200
    assert client.files.content(done.file.id).read() == LINES[::-1] + LINES
    assert client.uploads.complete(upload.id, part_ids=order, md5=md5) == done
    with pytest.raises(openai.ConflictError):
        client.uploads.cancel(upload.id)
    with pytest.raises(openai.ConflictError):
        client.uploads.parts.create(upload.id, data=b"late")


def test_a_cancelled_upload_takes_nothing_more(client: openai.OpenAI) -> None:
    upload = client.uploads.create(
        bytes=1, filename="x", mime_type="text/plain", purpose="user_data"
    )
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.ConflictError) as caught:
        client.uploads.complete(upload.id, part_ids=["part_1"])
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_file_in_chunks_by_the_clients_own_helper(client: openai.OpenAI, tmp_path: Path) -> None:
    (tmp_path / "chunks.jsonl").write_bytes(LINES)
    done = client.uploads.upload_file_chunked(
        file=tmp_path / "chunks.jsonl", mime_type="text/jsonl", purpose="fine-tune", part_size=300
    )
    assert done.file is not None
    assert client.files.content(done.file.id).read() == LINES


def test_a_large_file_does_not_pass_through_memory(mesh: Mesh) -> None:
    chunk = os.urandom(1024**2)

    def form() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
        for _ in range(BIG_BYTES // len(chunk)):
            yield chunk
        yield b"\r\n--b--\r\n"

    before = peak_bytes(mesh)
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    sent = mesh.http.post("/v1/files", content=form(), headers=kind)
    assert sent.status_code == 200, sent.text
    assert sent.json()["bytes"] == BIG_BYTES
    with mesh.http.stream("GET", f"/v1/files/{sent.json()['id']}/content") as response:
        received, digest = 0, hashlib.sha256()
        for piece in response.iter_bytes():
            received += len(piece)
            digest.update(piece)
    assert received == BIG_BYTES
    assert digest.digest() == hashlib.sha256(chunk * (BIG_BYTES // len(chunk))).digest()
    assert peak_bytes(mesh) - before < RSS_GROWTH_BYTES_MAX
    mesh.http.delete(f"/v1/files/{sent.json()['id']}")


def peak_bytes(mesh: Mesh) -> int:
    """The most memory that the gateway has ever held."""
    status = Path(f"/proc/{mesh.told['pids']['gateway']}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


Refusal = tuple[str, str, Json, int, str | None, str]
UPLOAD: Json = {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "evals"}

REFUSALS: list[Refusal] = [
    ("GET", "/files/file-0", {}, 404, "file_id", "file_not_found"),
    ("GET", "/files?limit=0", {}, 400, "limit", "field_invalid"),
    ("GET", "/files?limit=10001", {}, 400, "limit", "field_invalid"),
    ("GET", "/files?after=x", {}, 400, "after", "field_invalid"),
    ("GET", "/files?order=up", {}, 400, "order", "field_invalid"),
    ("GET", "/files?purpose=x", {}, 400, "purpose", "field_invalid"),
    ("POST", "/files", {}, 400, "body", "field_invalid"),
    ("POST", "/uploads", UPLOAD | {"bytes": 0}, 400, "bytes", "field_invalid"),
    ("POST", "/uploads", UPLOAD | {"bytes": "1"}, 400, "bytes", "field_invalid"),
    ("POST", "/uploads", UPLOAD | {"bytes": 8 * 1024**3 + 1}, 400, "bytes", "field_invalid"),
    ("POST", "/uploads", UPLOAD | {"purpose": "x"}, 400, "purpose", "field_invalid"),
    ("POST", "/uploads", UPLOAD | {"mime_type": ""}, 400, "mime_type", "field_invalid"),
    ("POST", "/uploads", UPLOAD | {"sise": 1}, 400, "sise", "field_invalid"),
    (
        "POST",
        "/uploads",
        UPLOAD | {"expires_after": {"anchor": "created_at", "seconds": 1}},
        400,
        "expires_after[seconds]",
        "field_invalid",
    ),
    ("POST", "/uploads/upload_0/complete", {"part_ids": ["x"]}, 404, None, "upload_not_found"),
    ("POST", "/uploads/upload_0/cancel", {}, 404, None, "upload_not_found"),
    ("POST", "/files/file-0/nowhere", {}, 404, None, "method_not_found"),
    ("PUT", "/files", {}, 404, None, "method_not_found"),
    ("GET", "/models/provider%2Fmodel", {}, 400, None, "request_malformed"),
    ("POST", "/uploads", {"filename": "x" * 2_000_000}, 413, None, "request_too_large"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[f"{r[0]} {r[1]} {r[4]}" for r in REFUSALS])
def test_bad_input_gets_a_clear_error_in_the_dialects_envelope(
    mesh: Mesh, refusal: Refusal
) -> None:
    method, path, body, status, param, code = refusal
    response = mesh.http.request(method, OPENAI + path, json=body if method == "POST" else None)
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code)
    assert error["message"]


def test_a_form_that_is_wrong_is_refused(mesh: Mesh) -> None:
    def post(fields: Json, content: bytes = b"x", name: str = "file") -> str:
        response = mesh.http.post("/v1/files", data=fields, files={name: ("x", content)})
        assert response.status_code == 400, response.text
        return str(response.json()["error"]["param"])

    assert post({}) == "purpose"
    assert post({"purpose": "fine-tune-results"}) == "purpose"
    assert post({"purpose": "fine-tune", "sise": "1"}) == "sise"
    assert post({"purpose": "fine-tune"}, name="data") == "file"
    life = {"purpose": "evals", "expires_after[anchor]": "created_at"}
    assert post(life) == "expires_after[seconds]"
    assert post(life | {"expires_after[seconds]": "60"}) == "expires_after[seconds]"
    assert post({"purpose": "evals", "expires_after[seconds]": "3600"}) == "expires_after[anchor]"


def test_what_is_too_large_is_refused_and_its_sender_hears_why(mesh: Mesh) -> None:
    with client_of(mesh) as client:
        upload = client.uploads.create(**UPLOAD)
        with pytest.raises(openai.APIStatusError) as caught:
            client.uploads.parts.create(upload.id, data=bytes(64 * 1024**2 + 1))
        assert caught.value.status_code == 413
        assert caught.value.code == "file_too_large"


def test_anothers_files_are_not_there(mesh: Mesh, stranger: openai.OpenAI) -> None:
    with client_of(mesh) as client:
        file = client.files.create(file=("mine", b"x"), purpose="evals")
        upload = client.uploads.create(**UPLOAD)
    for act in (stranger.files.retrieve, stranger.files.delete, stranger.files.content):
        with pytest.raises(openai.NotFoundError):
            act(file.id)
    with pytest.raises(openai.NotFoundError):
        stranger.uploads.cancel(upload.id)
    with pytest.raises(openai.NotFoundError):
        stranger.uploads.parts.create(upload.id, data=b"x")
    assert file.id not in {found.id for found in stranger.files.list()}


def test_a_key_must_be_good_and_hold_the_scope(mesh: Mesh) -> None:
    with client_of(mesh, key="nonsense") as nobody, pytest.raises(openai.AuthenticationError) as no:
        nobody.files.list()
    assert (no.value.code, no.value.type) == ("invalid_api_key", "authentication_error")
    assert httpx.get(mesh.told["rest"] + "/v1/files").status_code == 401
    with client_of(mesh, key=new_key(mesh, "stranger", "files:read")) as reader:
        assert reader.files.list().data == []
        with pytest.raises(openai.PermissionDeniedError) as lacking:
            reader.files.create(file=("x", bytes(2_000_000)), purpose="evals")
    assert "files:write" in lacking.value.message
