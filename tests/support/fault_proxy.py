"""A TCP link that can be slow, cut, blocked one way or forgotten.

Connections are made to the proxy, which makes one each to the target and carries bytes both ways in
a thread of its own. What is wrong with the link can be changed at any time, for all connections.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

CHUNK_BYTES = 16 * 1024
LOOK_SECONDS = 0.02
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is wrong with a link; by default nothing."""

    latency_seconds: float = 0.0
    """Of each chunk, each way."""
    bytes_per_second: float = 0.0
    """Each way of a connection; 0: no limit."""
    reset_after_bytes: int = 0
    """A connection is reset after so many bytes to the target; 0: never."""
    dumb: bool = False
    """What is said to the target comes late: when this is over."""
    deaf: bool = False
    """What the target says comes late: when this is over."""


SOUND = Trouble()
CUT = Trouble(dumb=True, deaf=True)


class _Connection:
    """One connection through the proxy: both its ends, and how it fares."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.bytes_count = 0
        self.forgotten = False

    def reset(self) -> None:
        """Ends both sides with RST."""
        for writer in self.writers:
            held: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class FaultProxy:
    """The link to one port of this machine, from `port` on."""

    def __init__(self, target_port: int) -> None:
        self.trouble = SOUND
        self._target_port = target_port
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def reset(self) -> None:
        """Resets all connections."""
        self._each(_Connection.reset)

    def forget(self) -> None:
        """Nothing comes over the present connections any more, and neither end is told."""
        self._each(lambda one: setattr(one, "forgotten", True))

    def close(self) -> None:
        """Ends all connections and the proxy."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.reset()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    def _each(self, act: Callable[[_Connection], None]) -> None:
        done = threading.Event()

        def act_on_all() -> None:
            for connection in list(self._connections):
                act(connection)
            done.set()

        self._loop.call_soon_threadsafe(act_on_all)
        done.wait()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, to = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, to)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(connection, reader, to, forth=True),
                self._pump(connection, back, writer, forth=False),
            )
        except OSError:
            connection.reset()
        finally:
            self._connections.discard(connection)
            writer.close()
            to.close()

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        forth: bool,
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            while connection.forgotten or (self.trouble.dumb if forth else self.trouble.deaf):  # noqa: ASYNC110  # of another thread
                await asyncio.sleep(LOOK_SECONDS)
            trouble = self.trouble
            seconds = trouble.latency_seconds
            if trouble.bytes_per_second:
                seconds += len(chunk) / trouble.bytes_per_second
            if seconds:
                await asyncio.sleep(seconds)
            connection.bytes_count += len(chunk) * forth
            if 0 < trouble.reset_after_bytes < connection.bytes_count:
                connection.reset()
                return
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
