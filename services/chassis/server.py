"""A grpc.aio server with health, reflection, metrics, and an orderly end."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import grpc
import prometheus_client
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.chassis.certificates import Certificates
from services.chassis.channel import MESSAGE_BYTES_MAX, PING_MILLISECONDS
from services.chassis.environment import Config, ConfigurationError, read_environment
from services.chassis.interceptors import CallInterceptor
from services.chassis.telemetry import configure_logging

DRAIN_SECONDS = 5.0

Health: TypeAlias = health.aio.HealthServicer  # untyped upstream
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def exposing_metrics(address: str) -> Iterator[None]:
    """Answers GET /metrics until the block ends."""
    host, _, port = address.rpartition(":")
    server, thread = prometheus_client.start_http_server(int(port), addr=host)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@asynccontextmanager
async def serving(
    address: str,
    interceptor: CallInterceptor,
    names: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
    tls: Certificates | None,
) -> AsyncIterator[Health]:
    """Serves the registered services under their full `names` until the block ends, then drains.

    The health of the whole ("") and of each name starts as NOT_SERVING: the caller sets it once it
    is ready.
    """
    server = grpc.aio.server(
        interceptors=[interceptor],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.so_reuseport", 0),
            # By default a connection that is quiet for minutes would be broken off for its pings.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", PING_MILLISECONDS // 2),
        ],
    )
    servicer = Health()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    register(server)
    reflection.enable_server_reflection(
        [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
    )
    await set_health(servicer, names, serving=False)
    if tls is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, tls.for_server())
    await server.start()
    try:
        yield servicer
    finally:
        await servicer.enter_graceful_shutdown()
        interceptor.end_streams()
        await server.stop(DRAIN_SECONDS)


async def set_health(servicer: Health, names: Sequence[str], *, serving: bool) -> None:
    """Says of the whole server and of each service whether it can answer."""
    for name in ("", *names):
        await servicer.set(name, SERVING if serving else NOT_SERVING)


async def until_signal() -> None:
    """Waits for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def run(
    service: str, kind: type[Config], main: Callable[[Config], Coroutine[Any, Any, None]]
) -> None:
    """Runs a service's main coroutine, as the environment configures it, and logs start and end."""
    logger = configure_logging(service)
    logger.info("starting")
    try:
        uvloop.run(main(read_environment(kind)))
    except ConfigurationError as error:
        sys.exit(f"misconfigured: {error}")
    except Exception:
        logger.exception("ended_by_error")  # not by Python itself, which strikes nothing out
        sys.exit(1)
    logger.info("stopped")
