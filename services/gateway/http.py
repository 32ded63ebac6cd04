"""A plain HTTP listener beside gRPC, for dialects whose exact bytes transcoding cannot give.

A dialect brings its routes and the shape of its errors. What surrounds every call is here: who
calls, how often, with which scope, under which request id, and what is counted. Bodies are streams:
nothing is read before a handler asks for it. Envoy stands in front of it.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Counter, Histogram

from services.chassis.auth import FORWARDED_KEY, MESH, Authenticator, set_current_caller
from services.chassis.author import REQUEST_ID_CHARACTERS_MAX, REQUEST_KEY
from services.chassis.certificates import Certificates
from services.chassis.errors import (
    ErrorTable,
    PublicError,
    RefusedError,
    describe,
    read_error_info,
)
from services.chassis.limits import CallLimits

JSON_BYTES_MAX = 1024**2
"""A body that a handler reads as a whole."""
REST_BYTES_MAX = 64 * 1024**2
"""What of a refused body is still read, so that its sender gets to the answer."""
REST_SECONDS_MAX = 10.0
DRAIN_SECONDS = 5.0

ANSWERED = Counter(
    "trine_http_requests_total",
    "Calls of the gateway's HTTP listener.",
    ("dialect", "method", "route", "status"),
)
SECONDS = Histogram(
    "trine_http_seconds",
    "Time that calls of the gateway's HTTP listener took, bodies included.",
    ("dialect", "method", "route"),
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Call:
    """One call, admitted."""

    request: web.Request
    tenant: str
    authorization: str
    """The caller's own word to services that are asked on its behalf."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of a dialect: its path below the dialect's prefix, and the scope that it needs.

    Without a scope anybody may call: there is nothing, or the address carries its own permission.
    """

    method: str
    path: str
    scope: str
    answer: Callable[[Call], Awaitable[web.StreamResponse]]
    is_long: bool = False
    """Carries a file's bytes: as long as they take, so it keeps no place from other calls."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A foreign contract."""

    name: str
    prefix: str
    routes: Sequence[Route]
    refuse: Callable[[PublicError], web.Response]
    """How an error looks."""
    headers: Callable[[web.Request, float], Mapping[str, str]]
    """What stands on every answer, given the call and the seconds that it has taken so far."""


@asynccontextmanager
async def listening(
    address: str,
    authenticator: Authenticator,
    errors: ErrorTable,
    limits: CallLimits,
    dialects: Sequence[Dialect],
    *,
    tls: Certificates | None = None,
) -> AsyncIterator[None]:
    """Answers the dialects' calls until the block ends, then lets running ones finish."""
    application = web.Application(client_max_size=JSON_BYTES_MAX)
    application.on_response_prepare.append(_put_headers)
    for dialect in dialects:
        for route in dialect.routes:
            door = _Door(dialect, route, authenticator, errors, limits)
            application.router.add_route(route.method, dialect.prefix + route.path, door.answer)
    for dialect in dialects:
        nowhere = Route("*", "/{path:.*}", "", _refuse_unknown)
        door = _Door(dialect, nowhere, authenticator, errors, limits)
        application.router.add_route("*", dialect.prefix + nowhere.path, door.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    host, _, port = address.rpartition(":")
    context = tls.for_http() if tls else None
    await web.TCPSite(runner, host, int(port), ssl_context=context).start()
    try:
        yield
    finally:
        await runner.cleanup()


class _Door:
    """One route and what surrounds it."""

    def __init__(
        self,
        dialect: Dialect,
        route: Route,
        authenticator: Authenticator,
        errors: ErrorTable,
        limits: CallLimits,
    ) -> None:
        self._dialect = dialect
        self._route = route
        self._authenticator = authenticator
        self._errors = errors
        self._limits = limits
        self._places = limits.streams if route.is_long else limits.calls

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Admits the caller, answers, and tells errors in the dialect's words."""
        started = time.perf_counter()
        request[_DIALECT], request[_STARTED] = self._dialect, started
        request[_ID] = _request_id(request)
        try:
            with self._places.taken():
                call = await self._admit(request)
                with self._places.shared(call.tenant):
                    response = await self._route.answer(call)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if request.get(_BEGUN):
                raise  # the answer is on its way: breaking it off is all that is left to say
            response = self._dialect.refuse(self._describe(error, request))
            if isinstance(error, _UNREADABLE):
                response.force_close()  # nobody knows where on the connection the next call begins
            await _read_rest(request)
        # As the route says them: of the dozens of methods that a caller may name each would count.
        route = self._dialect.prefix + self._route.path
        labels = (self._dialect.name, self._route.method, route)
        ANSWERED.labels(*labels, response.status).inc()
        SECONDS.labels(*labels).observe(time.perf_counter() - started)
        return response

    async def _admit(self, request: web.Request) -> Call:
        authorization = request.headers.get("authorization", "")
        if not self._route.scope:
            set_current_caller(MESH)
            return Call(request, "", authorization)
        forwarded = request.headers.get(FORWARDED_KEY, "")
        metadata = {
            "authorization": authorization,
            FORWARDED_KEY: forwarded,
            REQUEST_KEY: request[_ID],
        }
        caller = await self._authenticator.authenticate(metadata, self._route.scope)
        set_current_caller(caller)
        self._limits.spend(caller.tenant, self._route.scope)
        return Call(request, caller.tenant, authorization)

    def _describe(self, error: Exception, request: web.Request) -> PublicError:
        if isinstance(error, RefusedError):
            return error.public
        told = _describe_plainly(error, request) or describe(error, self._errors)
        if told is not None:
            return told
        _log.error("http_failed", path=request.path, request_id=request[_ID], exc_info=error)
        message = "Something broke inside. The log holds the cause under the request id."
        return PublicError(grpc.StatusCode.INTERNAL, "INTERNAL", message)


def _describe_plainly(error: Exception, request: web.Request) -> PublicError | None:
    """What the listener itself, or another service, has to say."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = f"The body is larger than {JSON_BYTES_MAX} bytes."
        return PublicError(grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE", message)
    if isinstance(error, _UNREADABLE):
        return PublicError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "REQUEST_MALFORMED",
            "The body is not of the form or encoding that its headers say.",
        )
    if isinstance(error, _UnknownMethodError):
        message = f"There is no {request.method} {request.path}."
        return PublicError(grpc.StatusCode.NOT_FOUND, "METHOD_NOT_FOUND", message)
    if isinstance(error, grpc.aio.AioRpcError):
        info = read_error_info(error)
        if info.reason and info.reason != "INTERNAL":
            return PublicError(error.code(), info.reason, error.details() or "", info.metadata)
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return _UNAVAILABLE
    return None


_UNREADABLE = (HttpProcessingError, web.RequestPayloadError)
"""A part's headers that are none, or an encoding that is not the body's."""
_DIALECT: web.RequestKey[Dialect] = web.RequestKey("dialect", Dialect)
_STARTED: web.RequestKey[float] = web.RequestKey("started", float)
_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_BEGUN: web.RequestKey[bool] = web.RequestKey("begun", bool)
_UNAVAILABLE = PublicError(
    grpc.StatusCode.UNAVAILABLE,
    "SERVICE_UNAVAILABLE",
    "The service cannot be reached at the moment. Try again.",
)


class _UnknownMethodError(Exception):
    """The dialect has no such method or path."""


async def _refuse_unknown(_call: Call) -> web.StreamResponse:
    raise _UnknownMethodError


async def _put_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Called before the first byte of an answer."""
    dialect = request.get(_DIALECT)
    if dialect is None:
        return
    request[_BEGUN] = True
    response.headers[REQUEST_KEY] = request[_ID]
    response.headers.update(dialect.headers(request, time.perf_counter() - request[_STARTED]))


def _request_id(request: web.Request) -> str:
    """Envoy's, which it makes up for every call from outside."""
    given = request.headers.get(REQUEST_KEY, "")
    fits = given.isascii() and given.isprintable() and len(given) <= REQUEST_ID_CHARACTERS_MAX
    return given if given and fits else uuid.uuid4().hex


async def _read_rest(request: web.Request) -> None:
    """Reads what is left of a refused body: who still sends does not listen."""
    left = REST_BYTES_MAX
    try:
        async with asyncio.timeout(REST_SECONDS_MAX):
            while left > 0 and not request.content.at_eof():
                left -= len(await request.content.readany())
    except Exception:
        _log.info("refused_body_broken_off", path=request.path)
