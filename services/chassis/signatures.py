"""Signed content: bytes behind a line with their Ed25519 signature (RFC 8032).

Whoever holds the private key signs; whoever holds the public ones can tell, and can sign nothing.
Several public keys may be allowed, so that a key can be replaced while what it has signed is in
use. Nothing of the content is read before its signature has been found right.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MARK = b"trine-signed-1"
"""Opens the line and is signed too: the key's signature under anything else says nothing here."""
LINE_BYTES_MAX = 256
_KEY_ID_DIGITS = 16


class SignatureError(Exception):
    """Content is not signed, not by an allowed key, or not what was signed."""


class Signer:
    """Signs with a private key: 64 hexadecimal digits."""

    def __init__(self, private_key: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
        self._key_id = _key_id(self._key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Returns content behind its line; the same content always gives the same bytes."""
        signature = self._key.sign(_signed(content))
        return b" ".join((MARK, self._key_id, signature.hex().encode())) + b"\n" + content


class Verifier:
    """Knows what public keys signed: each 64 hexadecimal digits, with commas between them."""

    def __init__(self, public_keys: str) -> None:
        keys = [
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in public_keys.split(",")
        ]
        self._keys = {_key_id(key): key for key in keys}

    def open(self, signed: bytes) -> bytes:
        """Returns the content of what was signed.

        Raises:
            SignatureError: no signature, one of another key, or one of other content.
        """
        line, _, content = signed.partition(b"\n")
        words = line.split(b" ") if len(line) <= LINE_BYTES_MAX else []
        if len(words) != 3 or words[0] != MARK:
            raise SignatureError("is not signed")
        if words[1] not in self._keys:
            raise SignatureError("is signed by a key that is not allowed")
        try:
            signature = bytes.fromhex(words[2].decode("ascii"))
            self._keys[words[1]].verify(signature, _signed(content))
        except (InvalidSignature, ValueError):
            raise SignatureError("has another signature than its content") from None
        if signature.hex().encode() != words[2]:
            raise SignatureError("has its signature in another spelling")
        return content


def make_private_key() -> str:
    """A new private key."""
    return Ed25519PrivateKey.generate().private_bytes_raw().hex()


def public_key_of(private_key: str) -> str:
    """The public key that belongs to a private one."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
    return key.public_key().public_bytes_raw().hex()


def _key_id(key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_KEY_ID_DIGITS].encode()


def _signed(content: bytes) -> bytes:
    return MARK + b"\n" + content
