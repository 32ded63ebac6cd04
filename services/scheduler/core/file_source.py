"""What a run from files learns from, how, and what came of it."""

import datetime
import enum
import re
from dataclasses import dataclass, field

from services.scheduler.core.errors import FieldInvalidError

FILE_BYTES_MAX = 512 * 1024**2
SEED_MAX = 2**31 - 1
EPOCHS_MAX = 50
BATCH_MAX = 256
RATE_MULTIPLIER_MAX = 100.0
BETA_MAX = 2.0
CHECKPOINT_MARK = ":ckpt-step-"
_MODEL = re.compile(r"ft:[A-Za-z0-9:._-]{1,250}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Method(enum.StrEnum):
    """How a model is learned."""

    AUTO = ""
    """As the lines tell."""
    SUPERVISED = "supervised"
    DPO = "dpo"
    TRIPLET = "triplet"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file in the artifact store."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What may be chosen; None leaves it to the recipe."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """What was asked for."""

    training_file: InputFile
    validation_file: InputFile | None = None
    base_model: str
    method: Method = Method.AUTO
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob:
    """A wish, and what its base model stood for when it was made."""

    source: FileSource
    base_head: str
    """Empty for the encoder alone."""
    base_manifest_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDataset:
    """What the files hold."""

    training_lines_count: int
    validation_lines_count: int
    held_out_lines_count: int
    items_count: int
    tokens_count: int
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What came of a run beside its model."""

    result_file_digest: str
    result_file_size_bytes: int
    trained_tokens_count: int
    hyperparameters: Hyperparameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model as it was after some steps."""

    step: int
    training_loss: float
    validation_loss: float | None
    validation_ndcg_at_10: float | None
    manifest_digest: str
    create_time: datetime.datetime | None = None
    """When it was told; the store fills it in."""


def checkpoint_name(model: str, step: int) -> str:
    """The name of a model as it was after some steps."""
    return f"{model}{CHECKPOINT_MARK}{step}"


def model_of_checkpoint(name: str) -> tuple[str, int] | None:
    """The model and the step that a checkpoint's name stands for; None for another name."""
    model, mark, step = name.rpartition(CHECKPOINT_MARK)
    if not (mark and step.isascii() and step.isdecimal() and len(step) <= 9):
        return None
    return model, int(step)


def check_source(source: FileSource, seed: int) -> None:
    """Checks what a caller asks for.

    Raises:
        FieldInvalidError: names the field and the rule.
    """
    _check_file("source.training_file", source.training_file)
    if source.validation_file is not None:
        _check_file("source.validation_file", source.validation_file)
    if not source.base_model:
        raise FieldInvalidError("source.base_model", "must be given")
    if not _MODEL.fullmatch(source.model) or CHECKPOINT_MARK in source.model:
        rule = f'must be "ft:" and up to 250 of A-Z, a-z, 0-9 and ":._-", without {CHECKPOINT_MARK}'
        raise FieldInvalidError("source.model", rule)
    if not 0 <= seed <= SEED_MAX:
        raise FieldInvalidError("seed", f"must be 0 to {SEED_MAX}")
    _check_hyperparameters(source.hyperparameters, source.method)


def _check_file(name: str, file: InputFile) -> None:
    if not _DIGEST.fullmatch(file.digest):
        raise FieldInvalidError(f"{name}.digest", "must be a SHA-256 in lower-case hexadecimal")
    if not 0 <= file.size_bytes <= FILE_BYTES_MAX:
        raise FieldInvalidError(f"{name}.size_bytes", f"must be 0 to {FILE_BYTES_MAX}")


def _check_hyperparameters(chosen: Hyperparameters, method: Method) -> None:
    prefix = "source.hyperparameters"
    if chosen.n_epochs is not None and not 1 <= chosen.n_epochs <= EPOCHS_MAX:
        raise FieldInvalidError(f"{prefix}.n_epochs", f"must be 1 to {EPOCHS_MAX}")
    if chosen.batch_size is not None and not 1 <= chosen.batch_size <= BATCH_MAX:
        raise FieldInvalidError(f"{prefix}.batch_size", f"must be 1 to {BATCH_MAX}")
    rate = chosen.learning_rate_multiplier
    if rate is not None and not 0 < rate <= RATE_MULTIPLIER_MAX:
        rule = f"must be above 0 and at most {RATE_MULTIPLIER_MAX:g}"
        raise FieldInvalidError(f"{prefix}.learning_rate_multiplier", rule)
    if chosen.beta is None:
        return
    if not 0 < chosen.beta <= BETA_MAX:
        raise FieldInvalidError(f"{prefix}.beta", f"must be above 0 and at most {BETA_MAX:g}")
    if method not in {Method.DPO, Method.AUTO}:
        raise FieldInvalidError(f"{prefix}.beta", "is of the method dpo alone")
