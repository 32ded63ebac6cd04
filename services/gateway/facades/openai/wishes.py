"""Reading what a caller wants of a fine-tuning job."""

import re
from typing import Any

from services.gateway.core.create_job import Request
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.run import Hyperparameters, Method
from services.gateway.facades.requests import (
    Json,
    read_integer,
    read_json,
    read_object,
    read_optional_text,
    read_text,
    read_texts,
    refuse_unknown,
)

FIELDS = (
    "hyperparameters",
    "integrations",
    "metadata",
    "method",
    "model",
    "seed",
    "suffix",
    "training_file",
    "validation_file",
)
EPOCHS_MAX = 50
BATCH_MAX = 256
RATE_MULTIPLIER_MAX = 100
BETA_MAX = 2
INTEGRATIONS_MAX = 5
TRACKED_CHARACTERS_MAX = 128
TAGS_MAX = 50
TAG_CHARACTERS_MAX = 64
METADATA_HEADER = "x-tfy-metadata"
HEADER_VALUE_CHARACTERS_MAX = 128
"""Of a value there."""
AUTO = "auto"
_NOT_INSTALLED = (
    'absent: runs are kept by the package wandb, which is not there: pip install "trine[wandb]"'
)
_TRACKED = re.compile(r"[^/\\#?%:\x00-\x1f]+")
_TRACKED_RULE = f"at most {TRACKED_CHARACTERS_MAX} characters without / \\ # ? % :"
_COMMON = ("batch_size", "learning_rate_multiplier", "n_epochs")
_CHOICES = {
    Method.SUPERVISED: _COMMON,
    Method.TRIPLET: _COMMON,
    Method.DPO: (*_COMMON, "beta"),
}
"""What may be chosen of each method; "triplet" is a word of ours."""


def read_wish(body: Json, header_metadata: str) -> Request:
    """The request that a body makes; metadata of the header stand behind those of the body.

    Raises:
        FieldInvalidError: names the field and the rule.
    """
    method, chosen = _read_method(body)
    return Request(
        base_model=read_text(body, "model"),
        training_file_id=read_text(body, "training_file"),
        validation_file_id=read_optional_text(body, "validation_file"),
        method=method,
        hyperparameters=chosen,
        suffix=read_optional_text(body, "suffix"),
        seed=None if body.get("seed") is None else read_integer(body, "seed"),
        given={
            name: body[name]
            for name in ("method", "hyperparameters", "integrations")
            if body.get(name) is not None
        },
        metadata=_read_metadata(body, header_metadata),
    )


def check_integrations(body: Json, *, installed: bool) -> None:
    """Refuses integrations of another form, and any where the library that writes them is not."""
    given = body.get("integrations")
    if given is None:
        return
    if not isinstance(given, list) or len(given) > INTEGRATIONS_MAX:
        raise FieldInvalidError("integrations", f"a list of at most {INTEGRATIONS_MAX}")
    for index, integration in enumerate(given):
        name = f"integrations[{index}]"
        if not isinstance(integration, dict) or integration.get("type") != "wandb":
            raise FieldInvalidError(f"{name}.type", "wandb")
        refuse_unknown(integration, ("type", "wandb"), f"{name}.")
        _check_wandb(read_object(integration, "wandb") or {}, f"{name}.wandb.")
    if given and not installed:
        raise FieldInvalidError("integrations", _NOT_INSTALLED)


def _check_wandb(wandb: Json, inside: str) -> None:
    """Refuses what Weights & Biases would refuse, and what nobody would find again."""
    refuse_unknown(wandb, ("entity", "name", "project", "tags"), inside)
    texts = {"project": read_text(wandb, "project", inside)}
    for name in ("entity", "name"):
        if wandb.get(name) is not None:
            texts[name] = read_text(wandb, name, inside)
    for name, text in texts.items():
        if len(text) > TRACKED_CHARACTERS_MAX or not _TRACKED.fullmatch(text):
            raise FieldInvalidError(f"{inside}{name}", _TRACKED_RULE)
    tags = [] if wandb.get("tags") is None else read_texts(wandb, "tags", inside)
    if len(tags) > TAGS_MAX or not all(1 <= len(tag) <= TAG_CHARACTERS_MAX for tag in tags):
        rule = f"at most {TAGS_MAX} of 1 to {TAG_CHARACTERS_MAX} characters"
        raise FieldInvalidError(f"{inside}tags", rule)


def _read_method(body: Json) -> tuple[Method, Hyperparameters]:
    """How to learn; what stands in the method goes before the older field beside it."""
    method = read_object(body, "method")
    older = read_object(body, "hyperparameters")
    if method is None:
        choices = _CHOICES[Method.SUPERVISED]
        return Method.AUTO, _read_chosen(older, "hyperparameters", choices)
    kinds = [kind.value for kind in _CHOICES]
    if method.get("type") not in kinds:
        raise FieldInvalidError("method.type", f"one of {', '.join(kinds)}")
    kind = Method(method["type"])
    refuse_unknown(
        {name: value for name, value in method.items() if value is not None},
        ("type", kind),
        "method.",
    )
    inner = read_object(method, kind) or {}
    refuse_unknown(inner, ("hyperparameters",), f"method.{kind}.")
    given = read_object(inner, "hyperparameters")
    name = f"method.{kind}.hyperparameters"
    if given is None and older is not None:
        given, name = older, "hyperparameters"
    return kind, _read_chosen(given, name, _CHOICES[kind])


def _read_chosen(given: Json | None, name: str, choices: tuple[str, ...]) -> Hyperparameters:
    content = {key: value for key, value in (given or {}).items() if value not in (AUTO, None)}
    refuse_unknown(content, choices, f"{name}.")
    return Hyperparameters(
        n_epochs=_whole(content, "n_epochs", name, EPOCHS_MAX),
        batch_size=_whole(content, "batch_size", name, BATCH_MAX),
        learning_rate_multiplier=_factor(
            content, "learning_rate_multiplier", name, RATE_MULTIPLIER_MAX
        ),
        beta=_factor(content, "beta", name, BETA_MAX),
    )


def _whole(content: Json, key: str, name: str, value_max: int) -> int | None:
    value = content.get(key)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 1 <= value <= value_max:
        raise FieldInvalidError(f"{name}.{key}", f'"{AUTO}" or an integer from 1 to {value_max}')
    return int(value)


def _factor(content: Json, key: str, name: str, value_max: int) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= value_max:
        rule = f'"{AUTO}" or a number above 0 and at most {value_max}'
        raise FieldInvalidError(f"{name}.{key}", rule)
    return float(value)


def _read_metadata(body: Json, header: str) -> dict[str, str] | None:
    given = read_object(body, "metadata")
    if not header:
        return given
    behind: Any = read_json(header, METADATA_HEADER)
    if not isinstance(behind, dict) or not all(
        isinstance(value, str) and len(value) <= HEADER_VALUE_CHARACTERS_MAX
        for value in behind.values()
    ):
        rule = f"a JSON object of strings of at most {HEADER_VALUE_CHARACTERS_MAX} characters"
        raise FieldInvalidError(METADATA_HEADER, rule)
    return behind | (given or {})
