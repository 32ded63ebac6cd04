"""Headers of files of arrays: one that is too long is not read."""

import numpy as np
import pytest
from safetensors.numpy import save

from services.chassis.tensors import HeaderError, check_header, read_metadata

CONTENT = save({"table": np.zeros((3, 2), np.float32)})
LENGTH = int.from_bytes(CONTENT[:8], "little")


def test_a_header_may_be_as_long_as_is_allowed() -> None:
    check_header(CONTENT, LENGTH)
    with pytest.raises(HeaderError, match=f"more than {LENGTH - 1} bytes"):
        check_header(CONTENT, LENGTH - 1)


@pytest.mark.parametrize("length", [2**63, 100_000_000, 65_537])
def test_a_header_that_would_fill_memory_is_not_read(length: int) -> None:
    with pytest.raises(HeaderError, match="more than 65536"):
        check_header(length.to_bytes(8, "little") + b" " * 100, 65_536)


@pytest.mark.parametrize("content", [b"", b"\x01", (9).to_bytes(8, "little") + b"{}"])
def test_a_header_that_is_longer_than_its_file_is_not_read(content: bytes) -> None:
    with pytest.raises(HeaderError, match="cut off"):
        check_header(content, 65_536)


def test_what_a_file_says_in_words_is_read_from_memory() -> None:
    arrays = {"table": np.zeros((3, 2), np.float32)}
    assert read_metadata(save(arrays, {"layout": "ü"})) == {"layout": "ü"}
    assert read_metadata(CONTENT) == {}
