"""The artifact store: bytes under their SHA-256, in a local folder or a bucket.

Content addressing makes writes idempotent and reads verifiable: a file whose bytes do not give its
name is never returned.
"""

import asyncio
import contextlib
import hashlib
import re
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from services.chassis.crashpoint import crashpoint

if TYPE_CHECKING:
    from obstore import GetResult  # there for type checkers alone

ARTIFACT_BYTES_MAX = 2 * 1024**3
CHUNK_BYTES = 5 * 1024**2
"""S3 takes no smaller parts."""
CHUNKS_AT_ONCE_MAX = 2
"""Parts of a stream that are on their way to the store: so much of it is in memory."""
UNFINISHED_SECONDS = 86_400
"""Age at which a stream that nobody ended counts as broken off: its writer was killed."""
_INCOMING, _KEPT = "incoming", "sha256"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactError(Exception):
    """An artifact is absent, too large, or not what its name says."""


class ArtifactStore(Protocol):
    """What services need of the store."""

    async def put(self, content: bytes) -> str:
        """Stores bytes and returns their digest: SHA-256 in lower-case hexadecimal."""
        ...

    async def get(self, digest: str, bytes_max: int = ARTIFACT_BYTES_MAX) -> bytes:
        """Returns the bytes of a digest.

        Raises:
            ArtifactError: no such artifact, more than `bytes_max`, or bytes that do not give the
            digest.
        """
        ...

    async def exists(self, digest: str) -> bool:
        """Whether something is stored under a digest."""
        ...

    async def erase(self, digest: str) -> None:
        """Removes what is stored under a digest; nothing there is no error."""
        ...


class ObjectArtifacts:
    """Artifacts in whatever obstore can reach."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, content: bytes) -> str:
        """Stores bytes and returns their digest."""
        digest = await _digest_of(content)
        # obstore writes a local file beside its place and renames it: no reader sees half of it.
        await self._store.put_async(_path(digest), content)
        return digest

    async def get(self, digest: str, bytes_max: int = ARTIFACT_BYTES_MAX) -> bytes:
        """Returns the bytes of a digest."""
        result = await self._find(digest)
        if result.meta["size"] > bytes_max:
            raise ArtifactError(f"artifact {digest} is larger than {bytes_max} bytes")
        content = bytes(await result.bytes_async())
        if await _digest_of(content) != digest:
            raise ArtifactError(f"artifact {digest} is corrupt")
        return content

    async def put_stream(self, chunks: AsyncIterable[bytes]) -> tuple[str, int]:
        """Stores a stream without holding it in memory; returns its digest and its bytes.

        An error of the stream itself comes out as it is, and nothing is kept.
        """
        incoming, seen = f"{_INCOMING}/{uuid.uuid4().hex}", _Digesting(chunks)
        await self._store.put_async(
            incoming,
            seen.read(),
            use_multipart=True,
            chunk_size=CHUNK_BYTES,
            max_concurrency=CHUNKS_AT_ONCE_MAX,
        )
        digest = seen.hash.hexdigest()
        crashpoint("artifacts.streamed")
        await self._store.rename_async(incoming, _path(digest))
        crashpoint("artifacts.named")
        return digest, seen.bytes_count

    async def stream(self, digest: str) -> AsyncIterator[bytes]:
        """Yields the bytes of a digest, chunk by chunk; the last one only if all give the digest.

        Raises:
            ArtifactError: no such artifact, or bytes that do not give the digest.
        """
        result = await self._find(digest)
        seen, held = hashlib.sha256(), b""
        async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            if held:
                yield held
            held = bytes(chunk)
            await asyncio.to_thread(seen.update, held)
        if seen.hexdigest() != digest:
            raise ArtifactError(f"artifact {digest} is corrupt")
        if held:
            yield held

    async def exists(self, digest: str) -> bool:
        """Whether something is stored under a digest; nothing is under what is none."""
        try:
            await self._store.head_async(_path(digest))
        except (FileNotFoundError, ArtifactError):
            return False
        return True

    async def erase(self, digest: str) -> None:
        """Removes what is stored under a digest; nothing there is no error."""
        with contextlib.suppress(FileNotFoundError, ArtifactError):
            await self._store.delete_async(_path(digest))

    async def drop_unfinished(self) -> None:
        """Removes what killed writers have left in a folder; a bucket has a rule for that."""
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            await asyncio.to_thread(_drop_unfinished, self._store.prefix)

    async def _find(self, digest: str) -> "GetResult":
        """What lies in a digest's place; its bytes may be others yet.

        Raises:
            ArtifactError: nothing, or it is no digest.
        """
        try:
            return await self._store.get_async(_path(digest))
        except FileNotFoundError:
            raise ArtifactError(f"artifact {digest} does not exist") from None


def _drop_unfinished(folder: Path) -> None:
    before = time.time() - UNFINISHED_SECONDS
    # The store writes <name>#<number> beside a name, and renames it.
    for path in (*folder.glob(f"{_INCOMING}/*"), *folder.glob(f"{_KEPT}/*/*#*")):
        with contextlib.suppress(FileNotFoundError):  # its writer was faster
            if path.stat().st_mtime < before:
                path.unlink()


class _Digesting:
    """A stream that is hashed and counted as it is read."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.hash = hashlib.sha256()
        self.bytes_count = 0

    async def read(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.hash.update(chunk)
            self.bytes_count += len(chunk)
            yield chunk


def open_artifacts(url: str) -> ObjectArtifacts:
    """Opens the store of a URL (file://, s3://, gs://, az://) or of a folder's absolute path."""
    if url.startswith("/"):
        return ObjectArtifacts(LocalStore(url, mkdir=True))
    return ObjectArtifacts(from_url(url))


def memory_artifacts() -> ObjectArtifacts:
    """A store that lives as long as the process, for tests."""
    return ObjectArtifacts(MemoryStore())


def _path(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"{digest!r} is not a digest")
    return f"{_KEPT}/{digest[:2]}/{digest}"


async def _digest_of(content: bytes) -> str:
    """A file of some hundred MB would hold up everybody else on the loop."""
    return (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
