"""/files/uploads: files in numbered parts, each sent to an address that carries its permission."""

import dataclasses
import datetime
import hashlib
import hmac
from collections.abc import Collection
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from services.gateway.core.build_upload import (
    add_part,
    cancel_upload,
    complete_upload,
    create_upload,
    find_span,
    find_upload,
    pending_upload,
)
from services.gateway.core.create_job import FINE_TUNE
from services.gateway.core.errors import FieldInvalidError, SignatureInvalidError
from services.gateway.core.ports import Clock, Contents, FileStore
from services.gateway.core.transfers import Transfers
from services.gateway.core.upload import (
    PARTS_MAX,
    SPAN_BYTES,
    Part,
    Span,
    Upload,
    UploadState,
    future_file_id,
    spans,
)
from services.gateway.facades.archetype.answers import Json, answer, iso
from services.gateway.facades.archetype.files import base_name, check_file_type
from services.gateway.facades.archetype.requests import read_list
from services.gateway.facades.requests import (
    CHUNK_BYTES,
    read_body,
    read_integer,
    read_text,
    refuse_unknown,
)
from services.gateway.http import Call, Route

ADDRESS_LIFE = datetime.timedelta(minutes=15)
"""So long a part may be sent to its address; new addresses are given out until the upload ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where one part goes, until when, and on whose behalf."""

    tenant: str
    upload_id: str
    number: int
    expires: int
    """Unix time."""

    def signed(self, secret: bytes) -> str:
        """HMAC-SHA256 over all of it, in hexadecimal."""
        told = "\n".join(str(value) for value in dataclasses.astuple(self))
        return hmac.new(secret, told.encode(), hashlib.sha256).hexdigest()


class Uploads:
    """Uploads in numbered parts."""

    def __init__(
        self,
        store: FileStore,
        contents: Contents,
        clock: Clock,
        transfers: Transfers,
        *,
        secret: bytes,
        upload_bytes_max: int,
    ) -> None:
        self._store = store
        self._contents = contents
        self._clock = clock
        self._transfers = transfers
        self._upload_bytes_max = upload_bytes_max
        self._secret = hmac.digest(secret, b"addresses of parts", "sha256")

    def routes(self) -> list[Route]:
        """What is answered here."""
        upload = "/files/uploads/{upload_id}"
        return [
            Route("POST", "/files/uploads/initiate", "files:write", self.initiate),
            Route("PUT", f"{upload}/parts/{{number}}", "", self.put_part, is_long=True),
            Route("POST", f"{upload}/parts/urls", "files:write", self.give_addresses),
            Route("POST", f"{upload}/parts/checkpoint", "files:write", self.checkpoint),
            Route("POST", f"{upload}/complete", "files:write", self.complete),
            Route("POST", f"{upload}/abort", "files:write", self.abort),
        ]

    async def initiate(self, call: Call) -> web.StreamResponse:
        known = ("filename", "file_type", "num_bytes", "resume_if_started", "integrity_algorithm")
        body = await read_body(call.request, known)
        if body.get("integrity_algorithm") is not None:
            raise FieldInvalidError("integrity_algorithm", "absent: no checksum is known here")
        filename = base_name(read_text(body, "filename"))
        file_type = check_file_type(read_text(body, "file_type"))
        bytes_count = read_integer(body, "num_bytes")
        if not 1 <= bytes_count <= self._upload_bytes_max:
            raise FieldInvalidError("num_bytes", f"an integer from 1 to {self._upload_bytes_max:,}")
        resume = body.get("resume_if_started") or False
        if not isinstance(resume, bool):
            raise FieldInvalidError("resume_if_started", "true or false")
        started = None
        if resume:
            now = self._clock.now()
            started = await self._store.find_started_upload(call.tenant, filename, now)
        if started and (started.mime_type, started.bytes_count) != (file_type, bytes_count):
            started = None
        upload = started or await create_upload(
            self._store,
            self._clock,
            tenant=call.tenant,
            filename=filename,
            mime_type=file_type,
            purpose=FINE_TUNE,
            bytes_count=bytes_count,
            bytes_max=self._upload_bytes_max,
            expires_after_seconds=None,
            named=True,
        )
        there = {part.number for part in await self._store.list_parts(upload)}
        wanted = spans(upload.bytes_count)
        content = {
            "upload_id": upload.upload_id,
            "file_uid": future_file_id(upload),
            "file_name": upload.filename,
            "total_bytes": upload.bytes_count,
            "num_parts": len(wanted),
            "part_size": SPAN_BYTES,
            "is_resume": started is not None,
            "parts": [self._address(call, upload, s) for s in wanted if s.number not in there],
        }
        return answer(content)

    async def put_part(self, call: Call) -> web.StreamResponse:
        """Whoever holds the address may send this one part; the answer's ETag names what came."""
        address = self._check_address(call.request)
        with self._transfers.slot(address.tenant):
            part = await add_part(
                self._store,
                self._contents,
                self._clock,
                tenant=address.tenant,
                upload_id=address.upload_id,
                chunks=call.request.content.iter_chunked(CHUNK_BYTES),
                number=address.number,
            )
        return web.Response(headers={"etag": f'"{part.part_id}"'})

    async def give_addresses(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, ("part_numbers",))
        numbers: Any = body.get("part_numbers")
        fits = isinstance(numbers, list) and all(type(number) is int for number in numbers)
        if not fits or not 1 <= len(numbers) <= PARTS_MAX:
            raise FieldInvalidError("part_numbers", f"a list of 1 to {PARTS_MAX:,} integers")
        upload = await self._pending(call)
        wanted = [find_span(upload, number) for number in numbers]
        return answer({"parts": [self._address(call, upload, span) for span in wanted]})

    async def checkpoint(self, call: Call) -> web.StreamResponse:
        """Says that parts are there. A part that came is kept without this being said."""
        body = await read_body(call.request, ("parts",))
        upload = await self._pending(call)
        parts = await self._store.list_parts(upload)
        named = _read_parts(body, upload, parts)
        return answer({"num_checkpointed": len(named)})

    async def complete(self, call: Call) -> web.StreamResponse:
        """Of a part that the body does not name, what came last counts."""
        body = await read_body(call.request, ("parts", "integrity_checksum"))
        if body.get("integrity_checksum") is not None:
            raise FieldInvalidError("integrity_checksum", "absent: no checksum is known here")
        upload_id = call.request.match_info["upload_id"]
        upload = await find_upload(self._store, self._clock, call.tenant, upload_id)
        part_ids: list[str] = []
        if upload.state is UploadState.PENDING:
            parts = await self._store.list_parts(upload)
            chosen = {part.number: part.part_id for part in parts}
            chosen |= _read_parts(body, upload, parts) if body.get("parts") else {}
            numbers = [span.number for span in spans(upload.bytes_count)]
            missing = [number for number in numbers if number not in chosen]
            if missing:
                raise FieldInvalidError("parts", f"all of them, {missing[0]} too")
            part_ids = [chosen[number] for number in numbers]
        with self._transfers.slot(call.tenant):
            _, file = await complete_upload(
                self._store,
                self._contents,
                self._clock,
                tenant=call.tenant,
                upload_id=upload_id,
                part_ids=part_ids,
                md5="",
            )
        content = {
            "file_uid": file.file_id,
            "file_name": file.filename,
            "num_bytes": file.bytes_count,
            "file_status": "Ingested",
            "file_attributes": {},
        }
        return answer(content)

    async def abort(self, call: Call) -> web.StreamResponse:
        await read_body(call.request, ())
        upload_id = call.request.match_info["upload_id"]
        await cancel_upload(self._store, self._clock, call.tenant, upload_id)
        return answer({})

    async def _pending(self, call: Call) -> Upload:
        upload_id = call.request.match_info["upload_id"]
        return await pending_upload(self._store, self._clock, call.tenant, upload_id)

    def _address(self, call: Call, upload: Upload, span: Span) -> Json:
        expires = min(self._clock.now() + ADDRESS_LIFE, upload.expire_time).replace(microsecond=0)
        address = Address(upload.tenant, upload.upload_id, span.number, int(expires.timestamp()))
        request = call.request
        query = {
            "tenant": address.tenant,
            "expires": address.expires,
            "signature": address.signed(self._secret),
        }
        # As the caller reached us; Envoy says how that was.
        scheme = request.headers.get("x-forwarded-proto", "http")
        prefix = request.path.partition("/files/uploads/")[0]
        path = f"{prefix}/files/uploads/{upload.upload_id}/parts/{span.number}"
        return {
            "part_number": span.number,
            "url": f"{scheme}://{request.host}{path}?{urlencode(query)}",
            "offset": span.offset,
            "length": span.bytes_count,
            "expires_at": iso(expires),
        }

    def _check_address(self, request: web.Request) -> Address:
        try:
            address = Address(
                request.query.get("tenant", ""),
                request.match_info["upload_id"],
                int(request.match_info["number"]),
                int(request.query.get("expires", "")),
            )
        except ValueError:
            raise SignatureInvalidError from None
        given = request.query.get("signature", "").encode()
        good = hmac.compare_digest(address.signed(self._secret).encode(), given)
        if not good or address.expires <= self._clock.now().timestamp():
            raise SignatureInvalidError
        return address


def _read_parts(body: Json, upload: Upload, there: Collection[Part]) -> dict[int | None, str]:
    """Ids of the parts that a body names by number and token."""
    known = {(part.number, part.part_id) for part in there}
    named: dict[int | None, str] = {}
    for index, content in enumerate(read_list(body, "parts", "", PARTS_MAX)):
        inside = f"parts[{index}]."
        refuse_unknown(content, ("part_number", "part_token"), inside)
        span = find_span(upload, read_integer(content, "part_number"))
        token = read_text(content, "part_token", inside).strip('"')
        if (span.number, token) not in known:
            raise FieldInvalidError(f"{inside}part_token", "the ETag that the part's PUT answered")
        named[span.number] = token
    return named
