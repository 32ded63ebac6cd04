"""Signed content: whoever is allowed signs, and nothing else ever passes."""

import random

import pytest

from services.chassis.signatures import (
    SignatureError,
    Signer,
    Verifier,
    make_private_key,
    public_key_of,
)

OLD, NEW = make_private_key(), make_private_key()
CONTENT = b'{"head": "u_acme.dating.2026-05-17.001"}\n\x00\xff'


def test_what_is_signed_is_read_back() -> None:
    signed = Signer(NEW).sign(CONTENT)
    assert Verifier(public_key_of(NEW)).open(signed) == CONTENT
    assert Signer(NEW).sign(CONTENT) == signed, "the same content gives the same bytes"
    assert Verifier(public_key_of(NEW)).open(Signer(NEW).sign(b"")) == b""


def test_while_a_key_is_replaced_both_are_allowed() -> None:
    both = Verifier(f"{public_key_of(NEW)},{public_key_of(OLD)}")
    for key in (OLD, NEW):
        assert both.open(Signer(key).sign(CONTENT)) == CONTENT
    with pytest.raises(SignatureError, match="not allowed"):
        Verifier(public_key_of(NEW)).open(Signer(OLD).sign(CONTENT))


def test_no_changed_byte_passes() -> None:
    verifier, signed = Verifier(public_key_of(NEW)), Signer(NEW).sign(CONTENT)
    for place in range(len(signed)):
        for bit in range(8):
            changed = bytearray(signed)
            changed[place] ^= 1 << bit
            with pytest.raises(SignatureError):
                verifier.open(bytes(changed))


def test_no_cut_or_lengthened_content_passes() -> None:
    verifier, signed = Verifier(public_key_of(NEW)), Signer(NEW).sign(CONTENT)
    for changed in (*(signed[:end] for end in range(len(signed))), signed + b"\n", b"\n" + signed):
        with pytest.raises(SignatureError):
            verifier.open(changed)


def test_another_contents_signature_does_not_pass() -> None:
    signer = Signer(NEW)
    line = signer.sign(b"{}").partition(b"\n")[0]
    with pytest.raises(SignatureError, match="another signature than its content"):
        Verifier(public_key_of(NEW)).open(line + b"\n" + CONTENT)


def test_noise_is_not_signed() -> None:
    verifier, dice = Verifier(public_key_of(NEW)), random.Random(0)
    for _ in range(200):
        with pytest.raises(SignatureError, match="is not signed"):
            verifier.open(dice.randbytes(dice.randrange(500)))


@pytest.mark.parametrize("keys", ["", "00", "zz" * 32, "0" * 64 + ","])
def test_what_is_no_key_is_refused_at_once(keys: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever cryptography says of it
        Verifier(keys)
