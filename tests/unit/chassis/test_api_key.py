"""API keys: minted, recognised, and never stored."""

import random
import string

import pytest

from services.chassis.api_key import PREFIX, mint_api_key, parse_api_key

ALPHABET = string.ascii_letters + string.digits


def test_a_minted_key_is_recognised() -> None:
    text, hashed = mint_api_key()
    assert text.startswith(PREFIX)
    assert parse_api_key(text) == hashed


def test_what_is_stored_does_not_hold_the_secret() -> None:
    text, hashed = mint_api_key()
    secret = text[len(PREFIX) + len(hashed.key_id) :]
    assert secret not in repr(hashed)
    assert len(hashed.secret_hash) == 32


def test_keys_differ() -> None:
    assert len({mint_api_key()[0] for _ in range(100)}) == 100


def test_a_typo_is_noticed_anywhere() -> None:
    text, _ = mint_api_key()
    for place in range(len(PREFIX), len(text)):
        other = "A" if text[place] != "A" else "B"
        assert parse_api_key(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", "trine_", "trine_short", "sk-" + "a" * 48, "é" * 51])
def test_other_texts_are_no_keys(text: str) -> None:
    assert parse_api_key(text) is None


def test_chance_does_not_pass_the_checksum() -> None:
    source = random.Random(0)
    texts = (PREFIX + "".join(source.choices(ALPHABET, k=45)) for _ in range(20_000))
    assert [text for text in texts if parse_api_key(text)] == []
