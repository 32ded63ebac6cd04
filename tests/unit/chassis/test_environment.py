"""Configuration from the environment: required, typed, and silent about secrets."""

from dataclasses import dataclass

import pytest

from services.chassis.environment import ConfigurationError, read_environment


@dataclass(frozen=True, kw_only=True)
class Config:
    """An example."""

    address: str
    budget: int = 1_000
    seconds: float = 0.5


def test_values_are_converted_and_defaults_kept() -> None:
    config = read_environment(Config, {"TRINE_ADDRESS": "a:1", "TRINE_BUDGET": "5"})
    assert config == Config(address="a:1", budget=5, seconds=0.5)


def test_a_required_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="TRINE_ADDRESS"):
        read_environment(Config, {})


def test_a_wrong_type_is_named_but_its_value_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_environment(Config, {"TRINE_ADDRESS": "a:1", "TRINE_BUDGET": "s3cret"})
    assert "TRINE_BUDGET" in str(caught.value)
    assert "s3cret" not in str(caught.value)
