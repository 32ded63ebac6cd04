"""The two dialects: OpenAI's under /v1 and TrueFoundry's under /api/llm."""

from collections.abc import Mapping, Sequence

from aiohttp import web

from services.gateway.facades.openai.answers import refuse
from services.gateway.http import Dialect, Route

VERSION = "2020-10-01"
"""What OpenAI's own servers say."""


def openai(routes: Sequence[Route]) -> Dialect:
    """OpenAI's."""
    return Dialect("openai", "/v1", routes, refuse, _openai_headers)


def truefoundry(routes: Sequence[Route]) -> Dialect:
    """TrueFoundry's."""
    return Dialect("truefoundry", "/api/llm", routes, refuse, _truefoundry_headers)


def _openai_headers(_request: web.Request, seconds: float) -> Mapping[str, str]:
    return {"openai-processing-ms": str(round(seconds * 1_000)), "openai-version": VERSION}


def _truefoundry_headers(_request: web.Request, seconds: float) -> Mapping[str, str]:
    return {"server-timing": f"total;dur={seconds * 1_000:.1f}"}
