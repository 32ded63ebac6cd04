"""/files: files that are found by their names."""

import binascii
import datetime
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from services.gateway.core.create_file import create_file, receive
from services.gateway.core.create_job import FINE_TUNE
from services.gateway.core.errors import FieldInvalidError, FileNotThereError
from services.gateway.core.file import FILE_ID, FILES_MAX, File
from services.gateway.core.ids import check_after
from services.gateway.core.page import page_of
from services.gateway.core.ports import Clock, Contents, FileStore
from services.gateway.core.transfers import Transfers
from services.gateway.facades.archetype.answers import Json, answer
from services.gateway.facades.archetype.requests import read_count
from services.gateway.facades.requests import Receive, read_form, read_limit
from services.gateway.http import Call, Route

FILE_TYPES = (
    "application/json",
    "image/jpeg",
    "image/png",
    "text/csv",
    "text/plain",
    "video/mp4",
)
"""What may be sent; the client says text/plain of JSONL."""
PAGE = 100
PAGE_MAX = 1_000
INGESTED = "FILE_STATUS_INGESTED"
_PAGED = frozenset({"limit", "after", "before"})


def check_file_type(media_type: str) -> str:
    """The type without its parameters.

    Raises:
        FieldInvalidError: it is none that may be sent.
    """
    plain = media_type.partition(";")[0].strip().lower()
    if plain not in FILE_TYPES:
        raise FieldInvalidError("file_type", f"one of {', '.join(FILE_TYPES)}")
    return plain


class Files:
    """Files."""

    def __init__(
        self,
        store: FileStore,
        contents: Contents,
        clock: Clock,
        transfers: Transfers,
        *,
        pages: bool,
    ) -> None:
        """Takes whether lists are pages where the caller does not say so."""
        self._store = store
        self._contents = contents
        self._clock = clock
        self._transfers = transfers
        self._pages = pages

    def routes(self) -> list[Route]:
        """What is answered here."""
        return [
            Route("POST", "/files", "files:write", self.create, is_long=True),
            Route("POST", "/files/base64", "files:write", self.create_from_base64, is_long=True),
            Route("GET", "/files/info", "files:read", self.info),
            Route("GET", "/files/metadata", "files:read", self.list),
            Route("GET", "/files/metadata/{file_id}", "files:read", self.retrieve),
            Route("GET", "/files/download/{file_id}", "files:read", self.download, is_long=True),
            Route("DELETE", "/files/delete/{file_id}", "files:write", self.delete),
        ]

    async def create(self, call: Call) -> web.StreamResponse:
        return await self._create(call, self._receive)

    async def create_from_base64(self, call: Call) -> web.StreamResponse:
        return await self._create(call, lambda chunks: self._receive(decoded(chunks)))

    async def list(self, call: Call) -> web.StreamResponse:
        """A page, or a bare list: the documentation knows the one and the client the other."""
        if self._pages or _PAGED & call.request.query.keys():
            return await self._list_page(call)
        shard_files = read_count(call.request, "max_items_per_shard", -1, PAGE_MAX)
        shard = read_count(call.request, "shard_index", -1, FILES_MAX)
        file_type = call.request.query.get("file_type", "")
        found = await self._all(call.tenant)
        found = [file for file in found if not file_type or file.media_type == file_type]
        if shard >= 0:
            size = PAGE_MAX if shard_files < 1 else shard_files
            found = found[shard * size : (shard + 1) * size]
        elif shard_files > 0:
            found = found[:shard_files]
        return answer([_metadata(file) for file in found])

    async def retrieve(self, call: Call) -> web.StreamResponse:
        return answer(_metadata(await self._find(call)))

    async def info(self, call: Call) -> web.StreamResponse:
        files = await self._all(call.tenant)
        content = {
            "num_files": len(files),
            "num_bytes": sum(file.bytes_count for file in files),
            "num_ingested": len(files),
            "last_updated": files[0].create_time.timestamp() if files else 0.0,
        }
        return answer(content)

    async def download(self, call: Call) -> web.StreamResponse:
        """The bytes; an answer that breaks off is short of its content-length."""
        file = await self._find(call)
        response = web.StreamResponse(headers={"content-type": file.media_type})
        response.content_length = file.bytes_count
        await response.prepare(call.request)
        async for chunk in self._contents.stream(file.digest):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def delete(self, call: Call) -> web.StreamResponse:
        file = await self._find(call)
        if not await self._store.delete_file(call.tenant, file.file_id, self._clock.now()):
            raise FileNotThereError(file.filename)
        return answer({"is_valid": True, "file_id": file.filename, "file_uid": file.file_id})

    async def _create(self, call: Call, keep: Receive) -> web.StreamResponse:
        with self._transfers.slot(call.tenant):
            form = await read_form(call.request, "", keep)
        assert form.content is not None
        file = await create_file(
            self._store,
            self._contents,
            self._clock,
            tenant=call.tenant,
            filename=base_name(form.filename),
            purpose=FINE_TUNE,
            expires_after_seconds=None,
            content=form.content,
            named=True,
            media_type=check_file_type(form.media_type),
        )
        return answer({"is_valid": True, "file_id": file.filename, "file_uid": file.file_id})

    async def _receive(self, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        return await receive(self._store, self._contents, self._clock, chunks)

    async def _list_page(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, PAGE, PAGE_MAX)
        after, before = (call.request.query.get(name, "") for name in ("after", "before"))
        if after and before:
            raise FieldInvalidError("before", "absent where after is given")
        check_after(FILE_ID, after or before)
        found = await self._store.list_files(
            call.tenant,
            purpose="",
            named=True,
            after=after or before,
            limit=limit + 1,
            newest_first=not before,
            now=self._clock.now(),
        )
        page = page_of(found, limit)
        files = page.items[::-1] if before else page.items
        older = bool(before) or page.has_more
        newer = page.has_more if before else bool(after)
        content = {
            "data": [_metadata(file) for file in files],
            "has_more": older,
            "next_cursor": files[-1].file_id if files and older else None,
            "prev_cursor": files[0].file_id if files and newer else None,
        }
        return answer(content)

    async def _all(self, tenant: str) -> Sequence[File]:
        return await self._store.list_files(
            tenant,
            purpose="",
            named=True,
            after="",
            limit=FILES_MAX,
            newest_first=True,
            now=self._clock.now(),
        )

    async def _find(self, call: Call) -> File:
        file_id = call.request.match_info["file_id"]
        file = await self._store.find_named_file(call.tenant, file_id, self._clock.now())
        if file is None:
            raise FileNotThereError(file_id)
        return file


async def find_file(
    store: FileStore, tenant: str, file_id: str, field: str, now: datetime.datetime
) -> File:
    """A file by its name, or by the id that every file has.

    Raises:
        FileNotThereError: names the field.
    """
    found = await store.find_named_file(tenant, file_id, now)
    found = found or await store.find_file(tenant, file_id, now)
    if found is None:
        raise FileNotThereError(file_id, field)
    return found


def base_name(filename: str) -> str:
    """The last part of a path: what a file is found by."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise FieldInvalidError("filename", "a file's name")
    return name


async def decoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What a stream of base 64 says.

    Raises:
        FieldInvalidError: it is not base 64.
    """
    rest = b""
    try:
        async for chunk in chunks:
            rest += chunk.translate(None, b"\r\n")
            whole = len(rest) // 4 * 4
            yield binascii.a2b_base64(rest[:whole], strict_mode=True)
            rest = rest[whole:]
    except binascii.Error:
        raise _no_base64() from None
    if rest:
        raise _no_base64()


def _no_base64() -> FieldInvalidError:
    return FieldInvalidError("file", "base64")


def _metadata(file: File) -> Json:
    return {
        "file_id": file.filename,
        "file_uid": file.file_id,
        "is_valid": True,
        "file_type": file.media_type,
        "num_bytes": file.bytes_count,
        "file_status": INGESTED,  # there is nothing to wait for: a run reads the lines
        "file_attributes": {},
        "ingested": True,
        "file_index": None,
        "file_tags": [],
    }
