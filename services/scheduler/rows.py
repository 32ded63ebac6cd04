"""Verdicts and values of runs from files as PostgreSQL keeps them: JSON."""

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
from services.scheduler.core.verdict import (
    Counterfactual,
    Interval,
    Quality,
    Rule,
    Values,
    Verdict,
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


def verdict_of(text: str | None) -> Verdict | None:
    """What the gate said; None before it has."""
    if text is None:
        return None
    content = json.loads(text)
    for name in ("challenger_quality", "incumbent_quality"):
        quality = content[name]
        intervals = {key: Interval(**quality[key]) for key in ("ndcg_at_10", "auc")}
        content[name] = Quality(**{**quality, **intervals})
    for name in ("ndcg_at_10_gain", "auc_gain"):
        content[name] = Interval(**content[name])
    explored = content.get("counterfactual")
    content["counterfactual"] = None if explored is None else _counterfactual(explored)
    rules = tuple(Rule(**rule) for rule in content.get("rules", ()))
    return Verdict(**{**content, "reasons": tuple(content["reasons"]), "rules": rules})


def _counterfactual(content: dict[str, Any]) -> Counterfactual:
    values = {
        name: Values(**{kind: Interval(**bounds) for kind, bounds in content[name].items()})
        for name in ("challenger", "incumbent", "difference")
    }
    return Counterfactual(**{**content, **values})
