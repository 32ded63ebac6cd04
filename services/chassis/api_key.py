"""The text of an API key: minted once, and from then on only hashed and compared.

A key reads `trine_<id><secret><checksum>`: 12 characters of public id, 27 of secret (160 bits), 6
of CRC32, all base62. The prefix and checksum let secret scanners find leaked keys and let services
refuse typos without asking anyone.
"""

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass

PREFIX = "trine_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH = 12
_SECRET_LENGTH = 27
_CHECKSUM_LENGTH = 6
_LENGTH = len(PREFIX) + _ID_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH


@dataclass(frozen=True, slots=True)
class HashedKey:
    """What may be stored and sent: the key's public id and the SHA-256 of its secret."""

    key_id: str
    secret_hash: bytes


def mint_api_key(key_id: str = "") -> tuple[str, HashedKey]:
    """Returns the text of a new key, to be shown once, and what to store.

    Given the id of a key, the secret alone is new.
    """
    body = (key_id or _random(_ID_LENGTH)) + _random(_SECRET_LENGTH)
    return PREFIX + body + _checksum(body), _hashed(body)


def parse_api_key(text: str) -> HashedKey | None:
    """Returns the hashed key, or None for a text that no key can have."""
    if len(text) != _LENGTH or not text.startswith(PREFIX) or not text.isascii():
        return None
    body, checksum = text[len(PREFIX) : -_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return _hashed(body) if _checksum(body) == checksum else None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _hashed(body: str) -> HashedKey:
    # A plain hash is right for 160 random bits; a slow one would let anyone burn our CPU.
    return HashedKey(body[:_ID_LENGTH], hashlib.sha256(body[_ID_LENGTH:].encode()).digest())


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
