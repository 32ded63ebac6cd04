"""Numbers are read where the words leave no doubt, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.triplets.core.extraction.numbers import read_numbers
from services.triplets.core.schema import Field


def numeric(name: str, kind: str = "integer", description: str = "") -> Field:
    """A field of numbers."""
    return Field(name=name, kind="hard", type=kind, description=description)


PERSON = [
    numeric("age"),
    numeric("height_cm"),
    numeric("weight", "number", "Weight in kg."),
    numeric("salary_min_usd"),
    numeric("rate_hourly_usd", "number"),
    numeric("distance_km", "number"),
    numeric("experience_years"),
    numeric("bedrooms"),
    numeric("taste", "number"),
]
BOUNDS = [numeric(name) for name in ("salary_min_usd", "salary_max_usd", "age_min", "age_max")]


def read(text: str, fields: list[Field]) -> dict[str, object]:
    """What a text gives."""
    return {name: one.value for name, one in read_numbers(fields, text, fields).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm 34", {"age": 34}),
        ("I\u2019m 34 and I love jazz.", {"age": 34}),
        ("34 years old", {"age": 34}),
        ("I'm a 34-year-old nurse from Oslo", {"age": 34}),
        ("I am thirty-four years old", {"age": 34}),
        ("34M, climber", {"age": 34}),
        ("Hi! I'm Ann, 29, a teacher from Bergen.", {"age": 29}),
        ("34 year old guy, drummer", {"age": 34}),
        ("age: 34, height: 182cm, weight 80 kg", {"age": 34, "height_cm": 182, "weight": 80}),
        ("180 cm", {"height_cm": 180}),
        ("I'm 5'11\" tall", {"height_cm": 180}),
        ("6 ft 2", {"height_cm": 188}),
        ("1.80m", {"height_cm": 180}),
        ("I weigh 176 lbs", {"weight": 79.83}),
        ("I want 120\u2013150k USD per year", {"salary_min_usd": 120_000}),
        ("my minimum salary is $90,000", {"salary_min_usd": 90_000}),
        ("$60 per hour", {"rate_hourly_usd": 60}),
        ("I live 12 km away", {"distance_km": 12}),
        ("8 years of experience", {"experience_years": 8}),
        ("8+ years of experience in sales", {"experience_years": 8}),
        ("3 bedrooms", {"bedrooms": 3}),
        ("Bedrooms: 3", {"bedrooms": 3}),
        ("taste 0.5", {"taste": 0.5}),
    ],
)
def test_what_is_said_plainly_is_read(text: str, expected: dict[str, object]) -> None:
    assert read(text, PERSON) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "34",
        "$120k",  # a yearly salary or an hourly rate?
        "my brother is 34 years old",
        "I have a 6 years old daughter",
        "Looking for someone 30 years old",
        "When I was 20 years old I moved",
        "I'm not 34",
        "I'm happy, 29 times a day",
        "I like Ann, 29",
        "I'm 34. Actually I'm 35.",
        "I'm 34 minutes from downtown",
        "I'm 100% sure",
        "I'm 34.5 years into this, I think",
        "I ran 10 km",
        "My desk is 180 cm",
        "over 180 cm",
        "We have 5 years of experience",
        "I moved here 5 years ago",
        "My rent is $2000",
        "I make 50 pounds",
        "between 25 and 35 years old",
        "I have 2.5 years of experience",
        "1 2 3 4 5 6 7 8 9 years of experience",
    ],
)
def test_in_doubt_there_is_no_number(text: str) -> None:
    assert read(text, PERSON) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("salary $100k to $150k", {"salary_min_usd": 100_000, "salary_max_usd": 150_000}),
        ("between 25 and 35 years old", {"age_min": 25, "age_max": 35}),
        ("at least 30 years old", {"age_min": 30}),
        ("up to $90k", {"salary_max_usd": 90_000}),
        ("salary $120k", {}),
    ],
)
def test_bounds_are_read_from_ranges_and_comparisons(
    text: str, expected: dict[str, object]
) -> None:
    assert read(text, BOUNDS) == expected


def test_evidence_is_the_clause() -> None:
    (age,) = read_numbers(PERSON[:1], "Hello there, I'm 34, and I sail.", PERSON).values()
    assert (age.evidence, age.confidence) == ("I'm 34", 0.95)


@given(st.integers(13, 120), st.integers(13, 120))
def test_two_numbers_are_read_if_and_only_if_they_are_one(first: int, second: int) -> None:
    text = f"I'm {first}. Yes, I am {second} years old."
    assert read(text, PERSON) == ({"age": first} if first == second else {})


@given(st.text(max_size=600))
def test_whatever_is_said_a_value_is_among_its_digits_or_words(text: str) -> None:
    for one in read_numbers(PERSON, text, PERSON).values():
        assert isinstance(one.value, float)
        assert 0 < one.confidence <= 1
        assert len(one.evidence) <= 200
