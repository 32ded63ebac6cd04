"""Contexts of a person: the newest are kept, as many as fit, and the encoder reads them first."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from services.triplets.core.context import (
    CONTEXTS_BYTES_MAX,
    CONTEXTS_MAX,
    Context,
    add_context,
)
from services.triplets.core.profile import TEXT_CHARACTERS_MAX, encoder_text
from services.triplets.core.schema import Field, Schema

MOMENT = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)
ABOUT = Field(name="about", kind="soft", type="string")
SCHEMA = Schema(domain="dating", number=1, fields=(ABOUT,), encoder="test", dim=4)


def context(number: int, second: int, characters: int = 1) -> Context:
    """A piece with an id by its number."""
    return Context(
        context_id=f"ctx_{number}",
        content="ü" * characters,
        source="chat",
        occurred_at=MOMENT + datetime.timedelta(seconds=second),
    )


def kept_of(contexts: list[Context]) -> list[Context]:
    """What is kept of contexts that come one by one."""
    kept: list[Context] = []
    for one in contexts:
        kept = add_context(kept, one)
    return kept


def test_a_late_context_takes_its_place_among_older_and_newer_ones() -> None:
    kept = kept_of([context(1, 10), context(2, 30), context(3, 20)])
    assert [one.context_id for one in kept] == ["ctx_2", "ctx_3", "ctx_1"]


def test_of_equally_old_contexts_the_last_to_arrive_comes_first() -> None:
    kept = kept_of([context(1, 10), context(2, 10)])
    assert [one.context_id for one in kept] == ["ctx_2", "ctx_1"]


def test_beyond_the_limit_the_oldest_goes_even_if_it_is_the_new_one() -> None:
    full = kept_of([context(number, number) for number in range(1, CONTEXTS_MAX + 1)])
    assert add_context(full, context(0, 0)) == full
    newer = add_context(full, context(999, 999))
    assert len(newer) == CONTEXTS_MAX
    assert (newer[0].context_id, newer[-1].context_id) == ("ctx_999", "ctx_2")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20_000)), max_size=40))
def test_whatever_comes_what_is_kept_fits_and_is_the_newest(pieces: list[tuple[int, int]]) -> None:
    contexts = [context(n, second, size) for n, (second, size) in enumerate(pieces)]
    kept = kept_of(contexts)
    assert sum(len(one.content.encode()) for one in kept) <= CONTEXTS_BYTES_MAX
    moments = [one.occurred_at for one in kept]
    assert moments == sorted(moments, reverse=True)
    if kept and len(kept) < len(contexts):
        lost = [one for one in contexts if one not in kept]
        assert sum(len(one.content.encode()) for one in [*kept, *lost]) > CONTEXTS_BYTES_MAX


def test_the_encoder_reads_soft_fields_then_new_contexts_then_what_the_person_came_with() -> None:
    text = encoder_text(SCHEMA, {"about": "Sails."}, "First.", ["Newest.", "Older."])
    assert text == "Sails.\nNewest.\nOlder.\nFirst."


def test_the_encoder_is_given_whole_contexts_up_to_a_limit() -> None:
    long = "x" * (TEXT_CHARACTERS_MAX - 3)
    assert encoder_text(SCHEMA, {}, "abcd", [long]) == long
    assert encoder_text(SCHEMA, {}, "abc", [long]) == f"{long}\nabc"
