"""A small HTTP server that no client can keep busy: one thread, a bound on connections, a few seconds for each.

A connection that says nothing costs no thread. Where there are too many, the oldest that still waits makes way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

from stream_app import logs

Answer = tuple[int, str, bytes]
"""Status, media type and body."""

_SECONDS = 5.0
_LONGEST_REQUEST = 8192
# More than are accepted at once: a client whose request has come is answered before it could make way.
_MOST_CONNECTIONS = 256
_BACKLOG = 64
_STATUS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises OSError where the port is taken or the host not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # only where TCP is named does asyncio send at once: an answer in two writes would wait 40 ms for a client's ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def answering(listener: socket.socket, answers: Mapping[str, Callable[[], Answer]]) -> Iterator[None]:
    """Answer GET of each path until the end of the block, and close the listener then."""
    server = _Server(answers)
    thread = threading.Thread(target=server.run, args=[listener], daemon=True, name="metrics")
    thread.start()
    try:
        yield
    finally:
        server.end()
        thread.join(_SECONDS)


class _Server:
    def __init__(self, answers: Mapping[str, Callable[[], Answer]]) -> None:
        self._answers = answers
        self._open: dict[asyncio.StreamWriter, None] = {}
        """The connections, the oldest first."""
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    def run(self, listener: socket.socket) -> None:
        """Answer until `end` is called."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listener))

    def end(self) -> None:
        """Have `run` return; any thread may call it, once."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._ended.set)

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._client, sock=listener, limit=_LONGEST_REQUEST, backlog=_BACKLOG)
        await self._ended.wait()
        server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > _MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            async with asyncio.timeout(_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.transport.set_write_buffer_limits(0)  # `drain` waits until all is sent
                writer.write(self._response(request))
                await writer.drain()
                writer.close()
        if not writer.is_closing():
            writer.transport.abort()
        self._open.pop(writer, None)

    def _response(self, request: bytes) -> bytes:
        status, media, body = self._answer(request)
        head = f"HTTP/1.1 {status} {_STATUS[status]}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + (b"" if request.startswith(b"HEAD ") else body)

    def _answer(self, request: bytes) -> Answer:
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target, _, version = rest.partition(" ")
        path = target.partition("?")[0]  # what monitors add to a path changes no answer
        if not version.startswith("HTTP/"):
            return 400, "text/plain", b"this is no HTTP request\n"
        if method not in {"GET", "HEAD"}:
            return 405, "text/plain", b"GET and HEAD are answered\n"
        if path not in self._answers:
            return 404, "text/plain", f"{' '.join(self._answers)}\n".encode()
        try:
            return self._answers[path]()
        except Exception as error:  # what is asked changes meanwhile; the next request may find it whole
            logs.warning(f"{path} was not answered", error=f"{type(error).__name__}: {error}")
            return 503, "text/plain", b"not now\n"
