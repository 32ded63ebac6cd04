"""What every artifact store does, in memory and in a local folder."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from services.chassis.artifacts import (
    CHUNK_BYTES,
    CHUNKS_AT_ONCE_MAX,
    UNFINISHED_SECONDS,
    ArtifactError,
    ObjectArtifacts,
    memory_artifacts,
    open_artifacts,
)

CONTENT = b"\x00\xff an artifact"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass(frozen=True)
class ArtifactSetting:
    """A store and the objects that it stands on."""

    artifacts: ObjectArtifacts
    objects: LocalStore | MemoryStore

    async def overwrite(self, digest: str, content: bytes) -> None:
        """Puts other bytes in an artifact's place."""
        await self.objects.put_async(f"sha256/{digest[:2]}/{digest}", content)

    def paths(self) -> list[str]:
        """Where something is stored."""
        return sorted(item["path"] for page in self.objects.list() for item in page)


@pytest.fixture(params=["memory", "local"])
def setting_of_artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactSetting:
    objects = MemoryStore() if request.param == "memory" else LocalStore(tmp_path)
    return ArtifactSetting(ObjectArtifacts(objects), objects)


@pytest.fixture
def artifacts(setting_of_artifacts: ArtifactSetting) -> ObjectArtifacts:
    return setting_of_artifacts.artifacts


@pytest.mark.parametrize(
    "content", [CONTENT, b"", bytes(range(256)) * 50_000], ids=["small", "empty", "12.8 MB"]
)
async def test_what_is_put_is_got_back_under_its_sha256(
    artifacts: ObjectArtifacts, content: bytes
) -> None:
    digest = await artifacts.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert await artifacts.get(digest) == content


async def test_the_same_bytes_are_stored_once(setting_of_artifacts: ArtifactSetting) -> None:
    digests = await asyncio.gather(
        *(setting_of_artifacts.artifacts.put(CONTENT) for _ in range(10))
    )
    assert set(digests) == {DIGEST}
    assert setting_of_artifacts.paths() == [f"sha256/{DIGEST[:2]}/{DIGEST}"]
    assert await setting_of_artifacts.artifacts.get(DIGEST) == CONTENT


async def test_different_bytes_do_not_disturb_each_other(artifacts: ObjectArtifacts) -> None:
    contents = [CONTENT + bytes([index]) for index in range(20)]
    digests = [await artifacts.put(content) for content in contents]
    assert [await artifacts.get(digest) for digest in digests] == contents


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!", b"", b"\x01" + CONTENT[1:]])
async def test_corrupt_bytes_are_never_returned(
    setting_of_artifacts: ArtifactSetting, content: bytes
) -> None:
    await setting_of_artifacts.artifacts.put(CONTENT)
    await setting_of_artifacts.overwrite(DIGEST, content)
    with pytest.raises(ArtifactError, match=f"{DIGEST} is corrupt"):
        await setting_of_artifacts.artifacts.get(DIGEST)


async def test_putting_a_corrupt_artifact_again_repairs_it(
    setting_of_artifacts: ArtifactSetting,
) -> None:
    await setting_of_artifacts.overwrite(DIGEST, b"something else")
    assert await setting_of_artifacts.artifacts.put(CONTENT) == DIGEST
    assert await setting_of_artifacts.artifacts.get(DIGEST) == CONTENT


async def test_an_absent_artifact_is_an_error_that_names_it(artifacts: ObjectArtifacts) -> None:
    with pytest.raises(ArtifactError, match=f"{DIGEST} does not exist"):
        await artifacts.get(DIGEST)


async def test_an_artifact_above_the_callers_limit_is_refused(artifacts: ObjectArtifacts) -> None:
    await artifacts.put(CONTENT)
    assert await artifacts.get(DIGEST, bytes_max=len(CONTENT)) == CONTENT
    with pytest.raises(ArtifactError, match=f"larger than {len(CONTENT) - 1} bytes"):
        await artifacts.get(DIGEST, bytes_max=len(CONTENT) - 1)


@pytest.mark.parametrize(
    "digest",
    [
        "",
        DIGEST[:-1],
        DIGEST + "0",
        DIGEST.upper(),
        DIGEST + "\n",
        "g" * 64,
        "../" * 20 + "etc/passwd",
        f"sha256/{DIGEST[:2]}/{DIGEST}",
        "٣" * 64,
    ],
)
async def test_what_is_no_digest_is_never_looked_for(
    artifacts: ObjectArtifacts, digest: str
) -> None:
    await artifacts.put(CONTENT)
    with pytest.raises(ArtifactError, match="is not a digest"):
        await artifacts.get(digest)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_a_folder_is_opened_by_its_path_or_its_url_and_outlives_the_process(
    tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "deep" / "artifacts"
    folder.mkdir(parents=True)
    address = form.format(folder)
    await open_artifacts(address).put(CONTENT)
    assert await open_artifacts(address).get(DIGEST) == CONTENT
    assert (folder / "sha256" / DIGEST[:2] / DIGEST).read_bytes() == CONTENT


async def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "artifacts"
    await open_artifacts(str(folder)).put(CONTENT)
    assert (folder / "sha256" / DIGEST[:2] / DIGEST).read_bytes() == CONTENT


def test_nothing_half_written_lies_in_the_folder(tmp_path: Path) -> None:
    contents = [bytes([index]) * 6_000_000 for index in range(4)]

    async def put_all() -> list[str]:
        artifacts = open_artifacts(str(tmp_path))
        return await asyncio.gather(*(artifacts.put(content) for content in contents))

    digests = asyncio.run(put_all())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == sorted(digests)


class BrokenOffError(Exception):
    """Whoever sent has gone."""


async def stream_of(content: bytes, size: int = 65_536, fail: bool = False) -> AsyncIterator[bytes]:
    """The content in chunks; at the end it may break off."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if fail:
        raise BrokenOffError


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
async def test_a_stream_comes_back_as_it_was_put(
    setting_of_artifacts: ArtifactSetting, size: int
) -> None:
    artifacts, content = setting_of_artifacts.artifacts, os.urandom(size)
    digest, bytes_count = await artifacts.put_stream(stream_of(content))
    assert (digest, bytes_count) == (hashlib.sha256(content).hexdigest(), size)
    assert await artifacts.get(digest) == content
    assert b"".join([chunk async for chunk in artifacts.stream(digest)]) == content
    assert setting_of_artifacts.paths() == [f"sha256/{digest[:2]}/{digest}"]


@pytest.mark.parametrize("size", [1, 3 * CHUNK_BYTES])
async def test_of_a_stream_that_breaks_off_nothing_is_kept(
    setting_of_artifacts: ArtifactSetting, size: int
) -> None:
    with pytest.raises(BrokenOffError):
        await setting_of_artifacts.artifacts.put_stream(stream_of(bytes(size), fail=True))
    assert setting_of_artifacts.paths() == []


async def test_a_stream_is_read_no_faster_than_it_is_stored(tmp_path: Path) -> None:
    """So much of it is in memory as may be on its way, whatever its size."""
    artifacts = open_artifacts(str(tmp_path))
    chunks, ahead_max = 12, 0

    async def chunk_by_chunk() -> AsyncIterator[bytes]:
        nonlocal ahead_max
        for index in range(chunks):
            yield bytes(CHUNK_BYTES)
            ahead_max = max(ahead_max, (index + 1) * CHUNK_BYTES - bytes_in(tmp_path))

    await artifacts.put_stream(chunk_by_chunk())
    assert 0 < ahead_max <= (CHUNKS_AT_ONCE_MAX + 2) * CHUNK_BYTES


def bytes_in(folder: Path) -> int:
    """What lies in a folder, half written files included."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_the_end_of_a_corrupt_stream_is_never_given(
    setting_of_artifacts: ArtifactSetting,
) -> None:
    digest = await setting_of_artifacts.artifacts.put(CONTENT)
    await setting_of_artifacts.overwrite(digest, CONTENT[:-1] + b"?")
    with pytest.raises(ArtifactError, match="is corrupt"):
        [chunk async for chunk in setting_of_artifacts.artifacts.stream(digest)]
    with pytest.raises(ArtifactError, match="does not exist"):
        [chunk async for chunk in setting_of_artifacts.artifacts.stream("0" * 64)]


async def test_what_a_killed_writer_has_left_goes_after_a_day(tmp_path: Path) -> None:
    artifacts = open_artifacts(str(tmp_path))
    await artifacts.drop_unfinished()  # nothing came yet
    digest = await artifacts.put(CONTENT)
    kept = tmp_path / "sha256" / digest[:2] / digest
    left = [tmp_path / "incoming" / "old", kept.with_name(f"{digest}#1")]
    young = [tmp_path / "incoming" / "young#1", kept.with_name(f"{digest}#2")]
    young[0].parent.mkdir()
    for path in left + young:
        path.write_bytes(b"half")
    yesterday = time.time() - UNFINISHED_SECONDS - 1
    for path in (*left, kept):
        os.utime(path, (yesterday, yesterday))
    await artifacts.drop_unfinished()
    assert [path.exists() for path in left + young] == [False, False, True, True]
    assert await artifacts.get(digest) == CONTENT
    await memory_artifacts().drop_unfinished()


async def test_nobody_waits_while_a_large_artifact_is_hashed(
    artifacts: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed_by: list[int] = []

    def sha256(content: bytes) -> "hashlib._Hash":
        hashed_by.append(threading.get_ident())
        return real(content)

    real = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", sha256)
    await artifacts.get(await artifacts.put(CONTENT))
    assert len(hashed_by) == 2
    assert threading.get_ident() not in hashed_by


async def test_what_is_no_digest_is_not_there(artifacts: ObjectArtifacts) -> None:
    assert not await artifacts.exists("../escape")
    await artifacts.erase("../escape")


async def test_what_is_erased_is_not_there(setting_of_artifacts: ArtifactSetting) -> None:
    artifacts = setting_of_artifacts.artifacts
    digest = await artifacts.put(CONTENT)
    assert await artifacts.exists(digest)
    await artifacts.erase(digest)
    await artifacts.erase(digest)
    assert not await artifacts.exists(digest)
    assert setting_of_artifacts.paths() == []
