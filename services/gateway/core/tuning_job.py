"""A fine-tuning job: a dialect's own words about a run, and the run's id. It has no state."""

import datetime
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.run import Wish

JOB_ID = "ftjob-"
MODEL = "ft:"
SUFFIX_CHARACTERS_MAX = 64
SEED_MAX = 2**31 - 1
METADATA_PAIRS_MAX = 16
METADATA_KEY_CHARACTERS_MAX = 64
METADATA_VALUE_CHARACTERS_MAX = 512
REQUEST_KEY_CHARACTERS_MAX = 255
REPEAT = datetime.timedelta(minutes=10)
"""So long the same wish is taken for a repeat: clients try again without saying so."""
KEY_LIFE = datetime.timedelta(hours=24)
"""So long a repeat that says so, by its key, gets the first answer."""
_SUFFIX = re.compile(rf"[A-Za-z0-9._-]{{1,{SUFFIX_CHARACTERS_MAX}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob:
    """One job."""

    tenant: str
    job_id: str
    wish: Wish
    training_file_id: str
    validation_file_id: str | None
    given: Mapping[str, Any]
    """Method, hyperparameters and integrations as they were given."""
    metadata: Mapping[str, str] | None
    create_time: datetime.datetime
    fingerprint: bytes
    """SHA-256 of the request."""
    request_key: str
    """What the caller calls the request, if it does."""
    name: str = ""
    """What the caller finds it by, where a dialect has names: unique in the tenant, for good."""
    run_id: str = ""
    """Empty until the scheduler has answered."""
    result_file_id: str = ""
    """Once the run has made one."""


def model_name(base_model: str, tenant: str, suffix: str | None, job_id: str) -> str:
    """The name that a job's model will have: ft:<base>:<tenant>:<suffix>:<id>."""
    base = base_model.split(":")[1] if base_model.startswith(MODEL) else base_model
    return f"{MODEL}{base}:{tenant}:{suffix or ''}:{job_id.removeprefix(JOB_ID)}"


def choose_seed(given: int | None) -> int:
    """The seed that was given, or one that nobody chose.

    Raises:
        FieldInvalidError: it is out of range.
    """
    if given is None:
        return secrets.randbelow(SEED_MAX + 1)
    if not 0 <= given <= SEED_MAX:
        raise FieldInvalidError("seed", f"an integer from 0 to {SEED_MAX:,}")
    return given


def check_suffix(suffix: str | None) -> None:
    """Refuses a suffix that could not stand in a model's name."""
    if suffix is not None and not _SUFFIX.fullmatch(suffix):
        rule = f'1 to {SUFFIX_CHARACTERS_MAX} of A-Z, a-z, 0-9, ".", "_" and "-"'
        raise FieldInvalidError("suffix", rule)


def check_metadata(metadata: Mapping[str, Any] | None) -> None:
    """Refuses metadata that is more than a few short notes."""
    if metadata is None:
        return
    if len(metadata) > METADATA_PAIRS_MAX:
        raise FieldInvalidError("metadata", f"at most {METADATA_PAIRS_MAX} pairs")
    for key, value in metadata.items():
        if not 1 <= len(key) <= METADATA_KEY_CHARACTERS_MAX or "\0" in key:
            rule = f"keys of 1 to {METADATA_KEY_CHARACTERS_MAX} characters"
            raise FieldInvalidError("metadata", rule)
        fits = isinstance(value, str) and len(value) <= METADATA_VALUE_CHARACTERS_MAX
        if not fits or "\0" in value:
            rule = f"a string of at most {METADATA_VALUE_CHARACTERS_MAX} characters"
            raise FieldInvalidError(f"metadata[{key}]", rule)


def check_request_key(request_key: str) -> None:
    """Refuses a key that could not be kept."""
    if len(request_key) > REQUEST_KEY_CHARACTERS_MAX or not request_key.isprintable():
        rule = f"at most {REQUEST_KEY_CHARACTERS_MAX} printable characters"
        raise FieldInvalidError("Idempotency-Key", rule)
