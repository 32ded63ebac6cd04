"""What every store of files and uploads does, in dictionaries and in PostgreSQL."""

import asyncio
import datetime
from collections.abc import AsyncIterator

import pytest

from services.chassis.artifacts import ObjectArtifacts, memory_artifacts
from services.chassis.clock import ManualClock
from services.gateway.core import file as file_limits
from services.gateway.core.build_upload import (
    add_part,
    cancel_upload,
    complete_upload,
    create_upload,
    find_upload,
)
from services.gateway.core.create_file import create_file, receive
from services.gateway.core.errors import (
    ContentLostError,
    FieldInvalidError,
    FileNameTakenError,
    FileTooLargeError,
    QuotaExceededError,
    UploadNotFoundError,
    UploadStateError,
)
from services.gateway.core.expire_files import expire_files
from services.gateway.core.file import File
from services.gateway.core.ports import FileStore
from services.gateway.core.upload import (
    UPLOAD_SECONDS,
    UPLOADS_KEPT,
    UPLOADS_MAX,
    Upload,
    UploadState,
    future_file_id,
)
from services.gateway.memory import MemoryFileStore
from services.gateway.postgres import MIGRATIONS, PostgresFileStore
from tests.support.infrastructure import Servers

NOW = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
DAY_SECONDS = 86_400


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[FileStore]:
    if request.param == "memory":
        yield MemoryFileStore()
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield PostgresFileStore(database)


class Shelf:
    """A store, the bytes beside it, and a clock."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.contents: ObjectArtifacts = memory_artifacts()
        self.clock = ManualClock(NOW)

    async def send(
        self,
        content: bytes = b"x",
        tenant: str = "acme",
        purpose: str = "fine-tune",
        life: int | None = None,
        *,
        named: bool = False,
    ) -> File:
        """Sends a file; a millisecond later, so that files have an order."""
        self.clock.advance(0.001)
        received = await receive(self.store, self.contents, self.clock, chunks_of(content))
        return await create_file(
            self.store,
            self.contents,
            self.clock,
            tenant=tenant,
            filename="f.jsonl",
            purpose=purpose,
            expires_after_seconds=life,
            content=received,
            named=named,
            media_type="text/plain" if named else "",
        )

    async def find(self, file: File, tenant: str = "acme") -> File | None:
        """Asks for a file."""
        return await self.store.find_file(tenant, file.file_id, self.clock.now())

    async def delete(self, file: File) -> bool:
        """Deletes a file."""
        return await self.store.delete_file(file.tenant, file.file_id, self.clock.now())

    async def ids(
        self,
        tenant: str = "acme",
        *,
        purpose: str = "",
        after: str = "",
        limit: int = 10,
        newest_first: bool = True,
    ) -> list[str]:
        """Lists files."""
        files = await self.store.list_files(
            tenant,
            purpose=purpose,
            after=after,
            limit=limit,
            newest_first=newest_first,
            now=self.clock.now(),
        )
        return [file.file_id for file in files]

    async def announce(
        self, bytes_count: int = 2, life: int | None = None, *, named: bool = False, **most: int
    ) -> Upload:
        """Announces an upload."""
        self.clock.advance(0.001)
        return await create_upload(
            self.store,
            self.clock,
            tenant="acme",
            filename="f.jsonl",
            mime_type="text/jsonl",
            purpose="fine-tune",
            bytes_count=bytes_count,
            expires_after_seconds=life,
            named=named,
            **most,
        )

    async def add(self, upload: Upload, content: bytes, number: int | None = None) -> str:
        """Adds a part and returns its id."""
        part = await add_part(
            self.store,
            self.contents,
            self.clock,
            tenant="acme",
            upload_id=upload.upload_id,
            chunks=chunks_of(content),
            number=number,
        )
        return part.part_id

    async def complete(self, upload: Upload, *part_ids: str) -> tuple[Upload, File]:
        """Makes a file of the parts."""
        return await complete_upload(
            self.store,
            self.contents,
            self.clock,
            tenant="acme",
            upload_id=upload.upload_id,
            part_ids=part_ids,
            md5="",
        )

    async def sweep(self) -> None:
        """Does what happens by itself."""
        await expire_files(self.store, self.contents, self.clock)


@pytest.fixture
def shelf(store: FileStore) -> Shelf:
    return Shelf(store)


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    for byte in content:
        yield bytes([byte])


async def test_a_file_is_found_by_its_tenant_alone(shelf: Shelf) -> None:
    file = await shelf.send(b"abc", life=3_600)
    assert file.bytes_count == 3
    assert file.expire_time == file.create_time + datetime.timedelta(hours=1)
    assert await shelf.find(file) == file
    assert await shelf.find(file, "globex") is None
    assert not await shelf.store.delete_file("globex", file.file_id, shelf.clock.now())


async def test_files_are_listed_in_both_orders_from_page_to_page(shelf: Shelf) -> None:
    sent = [(await shelf.send()).file_id for _ in range(4)]
    other = await shelf.send(purpose="evals")
    await shelf.send(tenant="globex")
    assert await shelf.ids(purpose="fine-tune") == sent[::-1]
    assert await shelf.ids(limit=2) == [other.file_id, sent[3]]
    assert await shelf.ids(limit=2, after=sent[3]) == [sent[2], sent[1]]
    assert await shelf.ids(newest_first=False, after=sent[1]) == [*sent[2:], other.file_id]
    await shelf.store.delete_file("acme", sent[2], shelf.clock.now())
    assert await shelf.ids(after=sent[2]) == [sent[1], sent[0]]  # the place of one that is gone


async def test_a_file_expires_on_the_second_and_is_swept_away(shelf: Shelf) -> None:
    file = await shelf.send(life=3_600)
    shelf.clock.advance(3_599)
    assert await shelf.find(file)
    shelf.clock.advance(1)
    assert await shelf.find(file) is None
    assert await shelf.ids() == []
    assert not await shelf.delete(file)
    assert await shelf.store.expire(shelf.clock.now()) == 1
    assert await shelf.store.expire(shelf.clock.now()) == 0


async def test_bytes_are_erased_a_day_after_the_last_file_that_names_them(shelf: Shelf) -> None:
    first, second = await shelf.send(b"same"), await shelf.send(b"same", tenant="globex")
    assert first.digest == second.digest
    assert await shelf.delete(first)
    shelf.clock.advance(DAY_SECONDS)
    await shelf.sweep()
    assert await shelf.contents.exists(first.digest)
    assert await shelf.delete(second)
    shelf.clock.advance(DAY_SECONDS - 1)
    await shelf.sweep()
    assert await shelf.contents.exists(first.digest)
    shelf.clock.advance(1)
    await shelf.sweep()
    assert not await shelf.contents.exists(first.digest)
    assert await shelf.store.list_due(shelf.clock.now(), 10) == []


async def test_bytes_of_a_file_that_was_refused_are_erased_too(shelf: Shelf) -> None:
    with pytest.raises(FieldInvalidError):
        await shelf.send(b"refused", purpose="nonsense")
    (digest,) = await shelf.store.list_due(NOW + datetime.timedelta(days=2), 10)
    shelf.clock.advance(DAY_SECONDS + 1)
    await shelf.sweep()
    assert not await shelf.contents.exists(digest)


async def test_a_file_whose_bytes_were_erased_meanwhile_is_taken_back(shelf: Shelf) -> None:
    digest, bytes_count = await receive(
        shelf.store, shelf.contents, shelf.clock, chunks_of(b"gone")
    )
    await shelf.store.settle(digest, shelf.contents.erase)
    with pytest.raises(ContentLostError):
        await create_file(
            shelf.store,
            shelf.contents,
            shelf.clock,
            tenant="acme",
            filename="f",
            purpose="evals",
            expires_after_seconds=None,
            content=(digest, bytes_count),
        )
    assert await shelf.ids() == []


async def test_a_tenant_has_so_many_files_and_uploads(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("memory", "postgres"):
        monkeypatch.setattr(f"services.gateway.{module}.files.FILES_MAX", 2)
    results = await asyncio.gather(*(shelf.send() for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(result, QuotaExceededError) for result in results) == 2
    await shelf.send(tenant="globex")
    for _ in range(UPLOADS_MAX):
        await shelf.announce()
    with pytest.raises(QuotaExceededError):
        await shelf.announce()
    shelf.clock.advance(UPLOAD_SECONDS)
    await shelf.announce()


async def test_a_file_that_is_too_large_is_not_kept(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileTooLargeError):
        await receive(shelf.store, shelf.contents, shelf.clock, chunks_of(b"abc"), 2)
    assert await shelf.store.list_due(NOW + file_limits.KEEP * 2, 10) == []


async def test_parts_are_joined_in_the_order_given_and_dropped(shelf: Shelf) -> None:
    upload = await shelf.announce(4, life=3_600)
    first, second, unused = [await shelf.add(upload, part) for part in (b"ab", b"cd", b"e")]
    completed, file = await shelf.complete(upload, second, first)
    assert (completed.state, completed.file_id) == (UploadState.COMPLETED, file.file_id)
    assert await shelf.contents.get(file.digest) == b"cdab"
    assert file.expire_time == file.create_time + datetime.timedelta(hours=1)
    assert await shelf.store.list_parts(upload) == []
    assert await shelf.complete(upload, second, first, unused) == (completed, file)
    for _ in range(2):  # the parts' bytes go first; those of the file, once it has expired
        assert await shelf.contents.exists(file.digest)
        shelf.clock.advance(DAY_SECONDS)
        await shelf.sweep()
    assert not await shelf.contents.exists(file.digest)
    assert await shelf.store.list_due(shelf.clock.now() + file_limits.KEEP, 10) == []


async def test_of_two_completions_at_once_both_answer_one_file(shelf: Shelf) -> None:
    upload = await shelf.announce(2)
    part = await shelf.add(upload, b"ab")
    answers = await asyncio.gather(*(shelf.complete(upload, part) for _ in range(5)))
    assert len({file.file_id for _, file in answers}) == 1
    assert len(await shelf.ids()) == 1


async def test_an_upload_is_no_larger_than_its_limit(shelf: Shelf) -> None:
    await shelf.announce(3, bytes_max=3)
    for bytes_count in (0, 4):
        with pytest.raises(FieldInvalidError, match="bytes: an integer from 1 to 3"):
            await shelf.announce(bytes_count, bytes_max=3)


@pytest.mark.parametrize("named", [[], ["a"], ["a", "b", "b"], ["a", "b", "part_0"], ["b", "c"]])
async def test_only_all_bytes_of_the_upload_make_a_file(shelf: Shelf, named: list[str]) -> None:
    upload = await shelf.announce(2)
    ids = {name: await shelf.add(upload, name.encode()) for name in ("a", "b")}
    ids["c"] = await shelf.add(await shelf.announce(1), b"c")
    with pytest.raises(FieldInvalidError, match="part_ids"):
        await shelf.complete(upload, *(ids.get(name, name) for name in named))


async def test_an_upload_expires_after_an_hour(shelf: Shelf) -> None:
    upload = await shelf.announce(2)
    part = await shelf.add(upload, b"ab")
    shelf.clock.advance(UPLOAD_SECONDS)
    found = await find_upload(shelf.store, shelf.clock, "acme", upload.upload_id)
    assert found.state is UploadState.EXPIRED
    for _ in range(2):  # before and after the sweep
        with pytest.raises(UploadStateError):
            await shelf.complete(upload, part)
        with pytest.raises(UploadStateError):
            await shelf.add(upload, b"c")
        with pytest.raises(UploadStateError):
            await cancel_upload(shelf.store, shelf.clock, "acme", upload.upload_id)
        await shelf.sweep()
    assert await shelf.store.list_parts(upload) == []


async def test_an_upload_that_ended_is_forgotten_a_month_later_and_its_file_is_not(
    shelf: Shelf,
) -> None:
    completed, cancelled, expired = [await shelf.announce(1) for _ in range(3)]
    _, file = await shelf.complete(completed, await shelf.add(completed, b"x"))
    await cancel_upload(shelf.store, shelf.clock, "acme", cancelled.upload_id)
    await shelf.add(expired, b"y")

    async def known() -> int:
        await shelf.sweep()
        every = (completed, cancelled, expired)
        found = [await shelf.store.find_upload("acme", one.upload_id) for one in every]
        return sum(upload is not None for upload in found)

    shelf.clock.advance(UPLOAD_SECONDS)
    assert await known() == 3
    shelf.clock.advance(UPLOADS_KEPT.total_seconds() - 1)
    assert await known() == 3
    shelf.clock.advance(2)
    assert await known() == 0
    assert await shelf.find(file) == file


async def test_a_cancelled_upload_stays_cancelled(shelf: Shelf) -> None:
    upload = await shelf.announce(2)
    part = await shelf.add(upload, b"ab")
    for _ in range(2):
        ended = await cancel_upload(shelf.store, shelf.clock, "acme", upload.upload_id)
        assert ended.state is UploadState.CANCELLED
    with pytest.raises(UploadStateError):
        await shelf.complete(upload, part)
    with pytest.raises(UploadNotFoundError):
        await cancel_upload(shelf.store, shelf.clock, "globex", upload.upload_id)
    assert await shelf.store.list_parts(upload) == []


async def test_a_name_finds_one_file_of_a_tenant(shelf: Shelf) -> None:
    plain = await shelf.send()
    file = await shelf.send(named=True)
    await shelf.send(tenant="globex", named=True)

    async def found() -> File | None:
        return await shelf.store.find_named_file("acme", "f.jsonl", shelf.clock.now())

    assert await found() == file
    assert file.media_type == "text/plain"
    with pytest.raises(FileNameTakenError):
        await shelf.send(named=True)
    with pytest.raises(FileNameTakenError):
        await shelf.announce(named=True)
    listed = await shelf.store.list_files(
        "acme", purpose="", named=True, after="", limit=9, newest_first=True, now=NOW
    )
    assert listed == [file]
    assert await shelf.ids() == [file.file_id, plain.file_id]
    await shelf.delete(file)
    assert await found() is None
    assert (await shelf.send(named=True)).file_id != file.file_id


async def test_an_upload_with_numbered_parts_is_found_by_its_files_name(shelf: Shelf) -> None:
    async def started() -> Upload | None:
        return await shelf.store.find_started_upload("acme", "f.jsonl", shelf.clock.now())

    await shelf.announce()
    assert await started() is None
    upload = await shelf.announce(named=True)
    assert await started() == upload
    for number, content in ((0, b"a"), (0, b"abc"), (1, b"ab"), (-1, b"ab")):
        with pytest.raises(FieldInvalidError):
            await shelf.add(upload, content, number)
    part_id = await shelf.add(upload, b"ab", 0)
    (part,) = await shelf.store.list_parts(upload)
    assert (part.part_id, part.number) == (part_id, 0)
    other = await shelf.announce(named=True)
    _, file = await shelf.complete(upload, part_id)
    assert file.file_id == future_file_id(upload)
    assert await shelf.store.find_named_file("acme", "f.jsonl", shelf.clock.now()) == file
    assert await started() == other
    with pytest.raises(FileNameTakenError):
        await shelf.complete(other, await shelf.add(other, b"ab", 0))
