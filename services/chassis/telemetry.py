"""Logs as one JSON line per event, and the RPC metrics under the names of go-grpc-prometheus.

What could open something is struck out of every line, whoever wrote it: libraries' own logs come
the same way.
"""

import io
import logging
import re
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from prometheus_client import Counter, Histogram

Logger = structlog.typing.FilteringBoundLogger

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

HIDDEN = "…"
_SECRET_NAMES = frozenset(
    {"api_key", "authorization", "body", "mesh_token", "password", "secret", "trine-mesh-token"}
)
_SECRETS = (
    (re.compile(r"(trine_[0-9A-Za-z]{12})[0-9A-Za-z]{20,}"), r"\1" + HIDDEN),
    (re.compile(r"(whsec_)[0-9A-Za-z+/=]+"), r"\1" + HIDDEN),
    (re.compile(r"(?i)(bearer\s+)(?!trine_)[^\s\"',]+"), r"\1" + HIDDEN),
    (re.compile(r"(://[^\s/:@]*:)[^\s/@]+@"), r"\1" + HIDDEN + "@"),
    (re.compile(r"(trine-mesh-token\W+)[^\s\"',)]+"), r"\1" + HIDDEN),
)
"""Keys (their public id stays), webhooks' secrets, bearers, passwords in URLs, the mesh's token."""

STARTED = Counter(
    "grpc_server_started_total",
    "RPCs started on the server.",
    ("grpc_type", "grpc_service", "grpc_method"),
)
HANDLED = Counter(
    "grpc_server_handled_total",
    "RPCs completed on the server, whatever came of them.",
    ("grpc_type", "grpc_service", "grpc_method", "grpc_code"),
)
HANDLING_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Time that RPCs took on the server.",
    ("grpc_type", "grpc_service", "grpc_method"),
    buckets=_SECONDS,
)


def configure_logging(service: str) -> Logger:
    """Writes events to standard error as JSON, one a line, each naming the service."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
    )
    structlog.contextvars.bind_contextvars(service=service)
    logger: Logger = structlog.get_logger()
    logging.basicConfig(handlers=[_Passing()], level=logging.WARNING, force=True)
    return logger


class _StandardError(io.TextIOBase):
    """Standard error, whatever it is at the time.

    A line that cannot be written, as on a full disk, is lost: nobody's work ends for it.
    """

    def write(self, text: str) -> int:
        """Writes what can be written."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Lets go of what is written."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def hide_secrets(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Strikes secrets out: what stands under a telling name, and what looks like one anywhere."""
    return {
        name: HIDDEN if _names_a_secret(name) else _without_secrets(value)
        for name, value in event.items()
    }


def _names_a_secret(name: object) -> bool:
    """Whoever logs may log anything: a key of a dictionary need not be a string."""
    return isinstance(name, str) and name.lower() in _SECRET_NAMES


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, instead in _SECRETS:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, dict):
        return hide_secrets(None, "", value)
    if isinstance(value, list | tuple):
        if len(value) == 2 and _names_a_secret(value[0]):  # a header
            return [value[0], HIDDEN]
        return [_without_secrets(item) for item in value]
    return value if isinstance(value, bool | int | float | None) else _without_secrets(repr(value))


class _Passing(logging.Handler):
    """Passes on what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes it as an event."""
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


class RpcMetrics:
    """The metrics of one RPC method, looked up once."""

    def __init__(self, kind: str, method: str) -> None:
        service, _, name = method.removeprefix("/").partition("/")
        self._labels = (kind, service, name)
        self._started = STARTED.labels(*self._labels)
        self._seconds = HANDLING_SECONDS.labels(*self._labels)

    def start(self) -> None:
        """Counts a call."""
        self._started.inc()

    def finish(self, code: str, seconds: float) -> None:
        """Counts what became of it. `code` is written as Go's gRPC does ("OK", "NotFound")."""
        HANDLED.labels(*self._labels, code).inc()
        self._seconds.observe(seconds)
