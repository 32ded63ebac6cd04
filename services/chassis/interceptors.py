"""What happens around every RPC: who calls, how much, what is counted, and how errors leave.

One interceptor instead of a chain, because each link of a chain costs a few per cent of what the
server can answer. It wraps a method's handler once and keeps the wrapped one.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.chassis.auth import (
    Authenticator,
    Caller,
    required_scope,
    set_current_caller,
)
from services.chassis.errors import ErrorTable, PublicError, RefusedError, describe
from services.chassis.limits import CallLimits, Places
from services.chassis.telemetry import RpcMetrics

# These say nothing about tenants, and probes and tools call them without a key. Envoy does not
# route reflection.
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")

ADMIT_AGAIN_SECONDS = 1.0
"""How often the key of a running stream is looked at: with what a key stays fresh for, a revoked
one ends its streams within 5 seconds."""

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs alone
Handler: TypeAlias = Any
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]

_ENDING = PublicError(
    grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service is going down. Call again."
)
_MALFORMED = PublicError(
    grpc.StatusCode.INVALID_ARGUMENT,
    "REQUEST_MALFORMED",
    "The request is not of the form that the method declares.",
)

_log = structlog.get_logger()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates, measures, and maps exceptions, for all four kinds of call."""

    def __init__(
        self, authenticator: Authenticator, errors: ErrorTable, limits: CallLimits
    ) -> None:
        self.authenticator = authenticator
        self.errors = errors
        self.limits = limits
        self._wrapped: dict[str, Handler] = {}
        self.streams = _Streams()

    def end_streams(self) -> None:
        """Ends the answers that are streams, which would otherwise go on for ever: UNAVAILABLE."""
        self.streams.end()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the wrapped handler of the method; None for one that nobody serves."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler: Handler | None = await continuation(handler_call_details)
        if handler is None or method.startswith(OPEN_SERVICES):
            return handler
        call = _Call(self, method, handler)
        self._wrapped[method] = call.wrapped()
        return self._wrapped[method]


class _Streams:
    """The streams that are being answered."""

    def __init__(self) -> None:
        self.ending = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Counts the current task among them."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def end(self) -> None:
        """Ends them all."""
        self.ending = True
        for task in self._tasks:
            task.cancel()


class _Call:
    """One RPC method and what surrounds it."""

    def __init__(self, around: CallInterceptor, method: str, handler: Handler) -> None:
        self._authenticator = around.authenticator
        self._errors = around.errors
        self._limits = around.limits
        self._streams = around.streams
        self._method = method
        self._handler = handler
        self._scope = required_scope(method)
        self._metrics = RpcMetrics(_kind(handler), method)

    def wrapped(self) -> Handler:
        """The handler with everything around it."""
        handler = self._handler
        make = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "client_stream": grpc.stream_unary_rpc_method_handler,
            "server_stream": grpc.unary_stream_rpc_method_handler,
            "bidi_stream": grpc.stream_stream_rpc_method_handler,
        }[_kind(handler)]
        behaviour: Any = self._answer_stream if handler.response_streaming else self._answer
        # The request stays bytes until its caller is known: see _read and _read_stream.
        wrapped: Handler = make(behaviour, response_serializer=handler.response_serializer)
        return wrapped

    def _request(self, content: Any) -> Any:
        """What a behaviour is given: a message, or messages as they arrive."""
        read = self._read_stream if self._handler.request_streaming else self._read
        return read(content)

    def _read(self, content: bytes) -> Any:
        """The message; gRPC itself would tell of one that is none as an unknown error.

        Raises:
            RefusedError: the bytes are no such message.
        """
        try:
            return self._handler.request_deserializer(content)
        except DecodeError:
            raise RefusedError(_MALFORMED) from None

    async def _read_stream(self, contents: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for content in contents:
            yield self._read(content)

    async def _answer(self, request: Any, context: Context) -> Any:
        behaviour: Any = self._handler.stream_unary or self._handler.unary_unary
        call = _Running(self._metrics)
        try:
            async with self._admitted(context, self._limits.calls):
                response = await behaviour(self._request(request), context)
        except BaseException as error:
            await self._refuse(error, context, call)
        call.finish("OK")
        return response

    async def _answer_stream(self, request: Any, context: Context) -> AsyncIterator[Any]:
        behaviour: Any = self._handler.stream_stream or self._handler.unary_stream
        call = _Running(self._metrics)
        try:
            async with self._admitted(context, self._limits.streams), self._admitted_on(context):
                with self._streams.joined():
                    async for response in behaviour(self._request(request), context):
                        yield response
        except BaseException as error:
            await self._refuse(error, context, call)
        call.finish("OK")

    @asynccontextmanager
    async def _admitted(self, context: Context, places: Places) -> AsyncIterator[None]:
        """Holds a place for a call that may be made; what the mesh asks itself is never shed.

        Raises:
            RefusedError: says why not.
        """
        if not self._scope:
            set_current_caller(await self._authenticate(context))
            yield
            return
        with places.taken():
            caller = await self._authenticate(context)
            self._limits.spend(caller.tenant, self._scope)
            with places.shared(caller.tenant):
                set_current_caller(caller)
                yield

    async def _authenticate(self, context: Context) -> Caller:
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        return await self._authenticator.authenticate(metadata, self._scope)

    @asynccontextmanager
    async def _admitted_on(self, context: Context) -> AsyncIterator[None]:
        """Ends what runs inside once its caller would not be admitted any more.

        Raises:
            RefusedError: says why.
        """
        if not self._scope:
            yield  # the mesh's token holds as long as the mesh
            return
        inside = asyncio.current_task()
        assert inside is not None

        async def look() -> None:
            try:
                while True:
                    await asyncio.sleep(ADMIT_AGAIN_SECONDS)
                    await self._authenticate(context)
            except Exception:
                inside.cancel()
                raise

        looking = asyncio.create_task(look())
        try:
            yield
        except asyncio.CancelledError:
            if looking.done():
                looking.result()
            raise
        finally:
            looking.cancel()

    async def _refuse(self, error: BaseException, context: Context, call: "_Running") -> NoReturn:
        if isinstance(error, asyncio.CancelledError) and self._streams.ending:
            public: PublicError = _ENDING
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            call.finish("Canceled")
            raise error
        elif isinstance(error, RefusedError):
            public = error.public
        else:
            public = _describe(error, self._errors, self._method)
        call.finish(_go_name(public.code))
        await context.abort(public.code, public.message, public.trailing_metadata())
        raise AssertionError("abort always raises")


class _Running:
    """One call between its start and its end."""

    def __init__(self, metrics: RpcMetrics) -> None:
        self._metrics = metrics
        self._started = time.perf_counter()
        metrics.start()

    def finish(self, code: str) -> None:
        self._metrics.finish(code, time.perf_counter() - self._started)


def _describe(error: BaseException, table: ErrorTable, method: str) -> PublicError:
    public = describe(error, table) if isinstance(error, Exception) else None
    if public is not None:
        return public
    request_id = uuid.uuid4().hex
    _log.error("rpc_failed", method=method, request_id=request_id, exc_info=error)
    return PublicError(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        "Something broke inside. The log holds the cause under the request id.",
        {"request_id": request_id},
    )


def _kind(handler: Handler) -> str:
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


def _go_name(code: grpc.StatusCode) -> str:
    """NOT_FOUND as Go's client writes it, NotFound: dashboards made for it fit."""
    return code.name.title().replace("_", "")
