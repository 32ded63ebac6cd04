"""Files of arrays (safetensors): eight bytes with the header's length, a JSON header, the numbers.

The library allows a header of 100 MB, which JSON turns into many times as much in memory.
"""

import json

LENGTH_BYTES = 8


class HeaderError(Exception):
    """A file of arrays has a longer header than it is allowed, or none."""


def check_header(content: bytes, bytes_max: int) -> None:
    """Looks at the length of a file's header before anything reads it.

    Raises:
        HeaderError: it is longer than `bytes_max`, or longer than the file.
    """
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > bytes_max:
        raise HeaderError(f"arrays have a header of more than {bytes_max} bytes")
    if len(content) < LENGTH_BYTES + length:
        raise HeaderError("arrays are cut off")


def read_metadata(content: bytes) -> dict[str, str]:
    """What a file says in words beside its arrays; the library reads it from paths alone."""
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata
