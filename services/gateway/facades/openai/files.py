"""/files and /uploads."""

from collections.abc import AsyncIterator

from aiohttp import web

from services.gateway.core.build_upload import (
    add_part,
    cancel_upload,
    complete_upload,
    create_upload,
)
from services.gateway.core.create_file import create_file, receive
from services.gateway.core.errors import FileNotThereError
from services.gateway.core.file import FILE_ID, PURPOSES, RESULTS, File
from services.gateway.core.ids import check_after
from services.gateway.core.page import page_of
from services.gateway.core.ports import Clock, Contents, FileStore
from services.gateway.core.transfers import Transfers
from services.gateway.core.upload import Part, Upload
from services.gateway.facades.openai.answers import Json, answer, envelope, unix
from services.gateway.facades.requests import (
    read_body,
    read_choice,
    read_form,
    read_form_life,
    read_integer,
    read_life,
    read_limit,
    read_optional_text,
    read_text,
    read_texts,
    refuse_unknown,
)
from services.gateway.http import Call, Route

FILES_PAGE_MAX = 10_000
_LIFE = ("expires_after[anchor]", "expires_after[seconds]")


class Files:
    """Files and uploads."""

    def __init__(
        self,
        store: FileStore,
        contents: Contents,
        clock: Clock,
        transfers: Transfers,
        *,
        upload_bytes_max: int,
    ) -> None:
        self._store = store
        self._contents = contents
        self._clock = clock
        self._transfers = transfers
        self._upload_bytes_max = upload_bytes_max

    def routes(self) -> list[Route]:
        """What is answered here."""
        return [
            Route("POST", "/files", "files:write", self.create, is_long=True),
            Route("GET", "/files", "files:read", self.list),
            Route("GET", "/files/{file_id}", "files:read", self.retrieve),
            Route("DELETE", "/files/{file_id}", "files:write", self.delete),
            Route("GET", "/files/{file_id}/content", "files:read", self.content, is_long=True),
            Route("POST", "/uploads", "files:write", self.create_upload),
            Route("POST", "/uploads/{upload_id}/parts", "files:write", self.add_part, is_long=True),
            Route("POST", "/uploads/{upload_id}/complete", "files:write", self.complete_upload),
            Route("POST", "/uploads/{upload_id}/cancel", "files:write", self.cancel_upload),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        """Each call makes a file of its own: the bytes are kept once, whoever sends them again."""
        with self._transfers.slot(call.tenant):
            form = await read_form(call.request, "file", self._receive)
        assert form.content is not None
        refuse_unknown(dict(form.fields), ("purpose", *_LIFE))
        file = await create_file(
            self._store,
            self._contents,
            self._clock,
            tenant=call.tenant,
            filename=form.filename,
            purpose=form.fields.get("purpose", ""),
            expires_after_seconds=read_form_life(form.fields),
            content=form.content,
        )
        return answer(_file(file))

    async def list(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, FILES_PAGE_MAX, FILES_PAGE_MAX)
        order = read_choice(call.request, "order", ("asc", "desc"), "desc")
        purpose = read_choice(call.request, "purpose", ("", *PURPOSES, RESULTS), "")
        after = call.request.query.get("after", "")
        check_after(FILE_ID, after)
        found = await self._store.list_files(
            call.tenant,
            purpose=purpose,
            after=after,
            limit=limit + 1,
            newest_first=order == "desc",
            now=self._clock.now(),
        )
        return answer(envelope(page_of(found, limit), _file, ids=True))

    async def retrieve(self, call: Call) -> web.StreamResponse:
        return answer(_file(await self._find(call)))

    async def delete(self, call: Call) -> web.StreamResponse:
        file_id = call.request.match_info["file_id"]
        if not await self._store.delete_file(call.tenant, file_id, self._clock.now()):
            raise FileNotThereError(file_id)
        return answer({"id": file_id, "object": "file", "deleted": True})

    async def content(self, call: Call) -> web.StreamResponse:
        """The bytes; an answer that breaks off is short of its content-length."""
        file = await self._find(call)
        response = web.StreamResponse(headers={"content-type": "application/octet-stream"})
        response.content_length = file.bytes_count
        await response.prepare(call.request)
        async for chunk in self._contents.stream(file.digest):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def create_upload(self, call: Call) -> web.StreamResponse:
        known = ("bytes", "filename", "mime_type", "purpose", "expires_after")
        body = await read_body(call.request, known)
        upload = await create_upload(
            self._store,
            self._clock,
            tenant=call.tenant,
            filename=read_text(body, "filename"),
            mime_type=read_text(body, "mime_type"),
            purpose=read_text(body, "purpose"),
            bytes_count=read_integer(body, "bytes"),
            bytes_max=self._upload_bytes_max,
            expires_after_seconds=read_life(body),
        )
        return answer(_upload(upload))

    async def add_part(self, call: Call) -> web.StreamResponse:
        parts: list[Part] = []

        async def keep(chunks: AsyncIterator[bytes]) -> tuple[str, int]:
            part = await add_part(
                self._store,
                self._contents,
                self._clock,
                tenant=call.tenant,
                upload_id=call.request.match_info["upload_id"],
                chunks=chunks,
            )
            parts.append(part)
            return part.digest, part.bytes_count

        with self._transfers.slot(call.tenant):
            await read_form(call.request, "data", keep)
        (part,) = parts
        content = {
            "id": part.part_id,
            "object": "upload.part",
            "created_at": unix(part.create_time),
            "upload_id": part.upload_id,
        }
        return answer(content)

    async def complete_upload(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, ("part_ids", "md5"))
        with self._transfers.slot(call.tenant):
            upload, file = await complete_upload(
                self._store,
                self._contents,
                self._clock,
                tenant=call.tenant,
                upload_id=call.request.match_info["upload_id"],
                part_ids=read_texts(body, "part_ids"),
                md5=read_optional_text(body, "md5") or "",
            )
        return answer(_upload(upload, file))

    async def cancel_upload(self, call: Call) -> web.StreamResponse:
        upload_id = call.request.match_info["upload_id"]
        upload = await cancel_upload(self._store, self._clock, call.tenant, upload_id)
        return answer(_upload(upload))

    async def _receive(self, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        return await receive(self._store, self._contents, self._clock, chunks)

    async def _find(self, call: Call) -> File:
        file_id = call.request.match_info["file_id"]
        file = await self._store.find_file(call.tenant, file_id, self._clock.now())
        if file is None:
            raise FileNotThereError(file_id)
        return file


def _file(file: File) -> Json:
    return {
        "id": file.file_id,
        "object": "file",
        "bytes": file.bytes_count,
        "created_at": unix(file.create_time),
        "expires_at": unix(file.expire_time),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",  # there is nothing to wait for: a run reads the lines
        "status_details": None,
    }


def _upload(upload: Upload, file: File | None = None) -> Json:
    return {
        "id": upload.upload_id,
        "object": "upload",
        "bytes": upload.bytes_count,
        "created_at": unix(upload.create_time),
        "expires_at": unix(upload.expire_time),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.state,
        "file": None if file is None else _file(file),
    }
