"""The two dialects: OpenAI's under /v1 and TrueFoundry's under /api/llm."""

from collections.abc import Mapping

from aiohttp import web

from services.gateway.core.inference import Inference
from services.gateway.core.ports import Clock, Contents, FileStore, JobStore, Runs, RunTracker
from services.gateway.core.transfers import Transfers
from services.gateway.facades.openai import statuses
from services.gateway.facades.openai.answers import refuse
from services.gateway.facades.openai.files import Files
from services.gateway.facades.openai.inference import Uses
from services.gateway.facades.openai.jobs import FineTuning
from services.gateway.facades.openai.models import Models
from services.gateway.facades.openai.webhooks import Webhooks
from services.gateway.http import Dialect

VERSION = "2020-10-01"
"""What OpenAI's own servers say."""


def dialects(
    files: FileStore,
    jobs: JobStore,
    runs: Runs,
    contents: Contents,
    clock: Clock,
    *,
    webhooks: Webhooks,
    inference: Inference,
    tracker: RunTracker,
    upload_bytes_max: int,
) -> list[Dialect]:
    """Both: they share all but their words for states."""
    shared = [
        *Files(files, contents, clock, Transfers(), upload_bytes_max=upload_bytes_max).routes(),
        *Models(jobs, runs, clock).routes(),
        *Uses(inference).routes(),
        *webhooks.routes(),
    ]
    asked = (jobs, files, runs, clock)
    openai = FineTuning(*asked, tracker=tracker, words=statuses.OPENAI).routes()
    truefoundry = FineTuning(*asked, tracker=tracker, words=statuses.TRUEFOUNDRY).routes()
    return [
        Dialect("openai", "/v1", [*shared, *openai], refuse, _openai_headers),
        Dialect("truefoundry", "/api/llm", [*shared, *truefoundry], refuse, _truefoundry_headers),
    ]


def _openai_headers(_request: web.Request, seconds: float) -> Mapping[str, str]:
    return {"openai-processing-ms": str(round(seconds * 1_000)), "openai-version": VERSION}


def _truefoundry_headers(_request: web.Request, seconds: float) -> Mapping[str, str]:
    return {"server-timing": f"total;dur={seconds * 1_000:.1f}"}
