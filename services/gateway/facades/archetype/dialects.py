"""The dialect: under /v0.5 as documented, under /api as its client calls it, jobs under /v0.6."""

from collections.abc import Mapping

from aiohttp import web

from services.gateway.core.ports import Clock, Contents, FileStore, JobStore, Runs
from services.gateway.core.transfers import Transfers
from services.gateway.facades.archetype.answers import refuse
from services.gateway.facades.archetype.files import Files
from services.gateway.facades.archetype.jobs import FineTune
from services.gateway.facades.archetype.tuning import Tuning
from services.gateway.facades.archetype.uploads import Uploads
from services.gateway.http import Dialect, Route


def dialects(
    files: FileStore,
    jobs: JobStore,
    runs: Runs,
    contents: Contents,
    clock: Clock,
    *,
    secret: bytes,
    upload_bytes_max: int,
) -> list[Dialect]:
    """All prefixes; `secret` signs the addresses to which parts are sent."""
    transfers = Transfers()
    uploads = Uploads(
        *(files, contents, clock, transfers), secret=secret, upload_bytes_max=upload_bytes_max
    ).routes()

    def shelf(*, pages: bool) -> list[Route]:
        return [*Files(files, contents, clock, transfers, pages=pages).routes(), *uploads]

    tuning = FineTune(jobs, files, runs, clock).routes()
    newer = Tuning(jobs, files, runs, clock).routes()
    return [
        Dialect("archetype", "/v0.5", [*shelf(pages=False), *tuning], refuse, _headers),
        Dialect("archetype", "/api", shelf(pages=True), refuse, _headers),
        Dialect("archetype", "/v0.6", newer, refuse, _headers),
    ]


def _headers(_request: web.Request, _seconds: float) -> Mapping[str, str]:
    return {}
