"""Logs as one JSON line per event, and the RPC metrics under the names of go-grpc-prometheus."""

import logging
import sys

import structlog
from prometheus_client import Counter, Histogram

Logger = structlog.typing.FilteringBoundLogger

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

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
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(service=service)
    logger: Logger = structlog.get_logger()
    return logger


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
