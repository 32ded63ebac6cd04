"""Values of runs from files as PostgreSQL keeps them: JSON."""

import dataclasses
import json
from typing import Any

from services.scheduler.core.file_source import (
    FileDataset,
    FileJob,
    FileResult,
    FileSource,
    Hyperparameters,
    InputFile,
    Method,
)


def dumped(value: Any) -> str | None:
    """A dataclass as JSON; None stays None."""
    return None if value is None else json.dumps(dataclasses.asdict(value))


def file_job(text: str | None) -> FileJob | None:
    """What a job from files asks for; None for a job of a domain."""
    if text is None:
        return None
    content = json.loads(text)
    source = content["source"]
    validation = source["validation_file"]
    return FileJob(
        **{
            **content,
            "source": FileSource(
                training_file=InputFile(**source["training_file"]),
                validation_file=None if validation is None else InputFile(**validation),
                base_model=source["base_model"],
                method=Method(source["method"]),
                hyperparameters=Hyperparameters(**source["hyperparameters"]),
                model=source["model"],
            ),
        }
    )


def file_dataset(text: str | None) -> FileDataset | None:
    """What files hold; None until they have been read."""
    if text is None:
        return None
    content = json.loads(text)
    return FileDataset(**{**content, "method": Method(content["method"])})


def file_result(text: str | None) -> FileResult | None:
    """What came of a run from files; None until it has ended well."""
    if text is None:
        return None
    content = json.loads(text)
    return FileResult(
        **{**content, "hyperparameters": Hyperparameters(**content["hyperparameters"])}
    )
