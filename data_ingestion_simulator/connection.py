"""One exchange with the API: a request, its deadlines, its answer. Nothing is repeated here.

The only file that knows httptools, which takes answers apart. Of an HTTP client for all purposes a
create would use little, and pay for it more than for everything else that is done for a user.
"""

import asyncio
import errno
import socket
import ssl
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from answers import Fault, Unreachable, check_status

CONNECT_TIMEOUT_SECONDS = 3.0
EXCHANGE_TIMEOUT_SECONDS = 10.0
# A name with several addresses: the next one is tried when the last has not answered for so long.
NEXT_ADDRESS_SECONDS = 0.25
# Less than the five seconds after which uvicorn closes an idle connection, perhaps under a request.
IDLE_CONNECTION_SECONDS = 2.0
LARGEST_ANSWER_BYTES = 256 * 1024  # a batch may be answered with ten thousand ids


class Connection:
    """The way to the API at `base_url`, on as many sockets as there are exchanges at once."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = EXCHANGE_TIMEOUT_SECONDS,
    ) -> None:
        url = urlsplit(base_url)
        secure = url.scheme.lower() == "https"
        self._host, self._port = url.hostname or "", url.port or (443 if secure else 80)
        self._tls = ssl.create_default_context() if secure else None
        self._path = url.path
        self._token = token
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._headers = f"Host: {url.netloc}\r\nAccept: application/json\r\n{authorization}"
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        self._idle: list[_Socket] = []

    def close(self) -> None:
        """Close the sockets that nobody uses."""
        while self._idle:
            self._idle.pop().abort()

    async def exchange(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        request_id: str = "",
    ) -> tuple[int, bytes]:
        """Status and body of a 2xx answer or a refusal; raises Fault when there is none.

        The `target` is a path and its query, percent-encoded; a `body` is JSON. A `request_id` is
        16 hexadecimal digits, not all of them zero; it also begins a trace, in the header of the
        W3C (https://www.w3.org/TR/trace-context/).
        """
        kind = "Content-Type: application/json\r\n" if body else ""
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        sender = (
            f"X-Request-ID: {request_id}\r\ntraceparent: 00-{request_id:0>32}-{request_id}-01\r\n"
            if request_id
            else ""
        )
        path = self._path + target
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}{sender}{kind}{length}\r\n"
        connected = self._idle_socket() or await self._connect()
        try:
            answer = await connected.ask(head.encode() + body)
        finally:
            self._put_back(connected)
        check_status(answer.status, answer.headers)
        if self._token and answer.status >= 400:
            # What a refusal says may be printed, and it might repeat the secret.
            return answer.status, bytes(answer.body).replace(self._token.encode(), b"***")
        return answer.status, bytes(answer.body)

    def _idle_socket(self) -> "_Socket | None":
        """The socket used last, unless even that one has been idle for too long."""
        now = asyncio.get_running_loop().time()
        if self._idle and now - self._idle[-1].idle_since > IDLE_CONNECTION_SECONDS:
            self.close()
        while self._idle:
            connected = self._idle.pop()
            if connected.reusable():
                return connected
            connected.abort()
        return None

    def _put_back(self, connected: "_Socket") -> None:
        if connected.reusable():
            connected.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connected)
        else:
            connected.abort()

    async def _connect(self) -> "_Socket":
        """A new socket; raises Unreachable."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                _, connected = await loop.create_connection(
                    lambda: _Socket(self._timeout_seconds),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                )
                return connected
        except TimeoutError:
            seconds = self._connect_timeout_seconds
            raise Unreachable(f"gave no connection within {seconds:g} s") from None
        except (socket.gaierror, UnicodeError):
            raise Unreachable("has a host name that cannot be looked up") from None
        except ssl.SSLError:
            raise Unreachable("could not be trusted over TLS") from None
        except OSError as error:
            # Of several addresses that refused, the errors have been put together as text.
            refused = isinstance(error, ConnectionRefusedError)
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise Unreachable("could not be asked: no more files may be opened") from None
            if refused or f"[Errno {errno.ECONNREFUSED}]" in str(error):
                raise Unreachable("refused the connection") from None
            raise Unreachable("cannot be reached") from None


class _Answer:
    """An answer, as far as it has come."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.received_bytes = 0
        self.headers_complete = False

    def ends_with_the_connection(self) -> bool:
        """Is this how its length is told? (RFC 9112, 6.3)"""
        lengths = {"Content-Length", "Transfer-Encoding"}
        return self.headers_complete and not lengths & self.headers.keys()


class _Socket(asyncio.Protocol):
    """One connection, for one exchange at a time; httptools calls the methods `on_...`."""

    def __init__(self, timeout_seconds: float) -> None:
        self.idle_since = 0.0
        self._timeout_seconds = timeout_seconds
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        self._future: asyncio.Future[_Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._usable = True

    async def ask(self, request: bytes) -> _Answer:
        """Send a request and await its answer; raises Fault."""
        loop = asyncio.get_running_loop()
        self._answer = _Answer()
        self._future = loop.create_future()
        self._due_at = loop.time() + self._timeout_seconds
        if self._timer is None:
            self._timer = loop.call_at(self._due_at, self._check_deadline)
        self._transport.write(request)
        return await self._future

    def reusable(self) -> bool:
        """Has the last exchange come to a good end, with the connection still open?"""
        return self._usable and self._future is None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close the socket, whatever is still on its way."""
        self._future = None
        if self._timer:
            self._timer.cancel()
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio: the connection is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (told to mypy)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """From asyncio: a part of an answer."""
        if self._future is None:  # to nothing that was asked
            self._usable = False
            return
        self._answer.received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.on_message_complete()
        except HttpParserError:
            self._fail("answered with something that is not HTTP")
        if self._answer.received_bytes > LARGEST_ANSWER_BYTES:
            self._fail(f"answered with more than {LARGEST_ANSWER_BYTES // 1024} KiB")

    def connection_lost(self, error: Exception | None) -> None:
        """From asyncio: the connection is no more."""
        if error is None and self._future and self._answer.ends_with_the_connection():
            self.on_message_complete()
        elif self._future and self._answer.received_bytes:
            self._fail("broke off in the middle of its answer")
        else:
            self._fail("closed the connection without an answer")

    def on_message_begin(self) -> None:
        """An answer begins; one after that which was asked for is not mixed up with it."""
        if self._future is None:
            self._usable = False
            self._answer = _Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those read are spelt as here, whatever the server's spelling."""
        self._answer.headers[name.decode("latin-1").title()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The headers are all there."""
        self._answer.headers_complete = True
        self._answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._answer.body += data

    def on_message_complete(self) -> None:
        """The answer is all there, unless it only says that another will follow (a 1xx)."""
        if 100 <= self._answer.status < 200 and self._answer.status != 101:
            self._answer.headers_complete = False
            return
        if self._future and not self._future.done():
            self._usable = self._parser.should_keep_alive()
            self._future.set_result(self._answer)
        self._future = None

    def _check_deadline(self) -> None:
        """From the timer: a socket has one, as to set one for each exchange would cost more."""
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._future and loop.time() < self._due_at:  # a later exchange
            self._timer = loop.call_at(self._due_at, self._check_deadline)
        elif self._future:
            self._fail(f"gave no answer within {self._timeout_seconds:g} s")

    def _fail(self, reason: str) -> None:
        self._usable = False
        if self._future and not self._future.done():
            self._future.set_exception(Fault(reason))
        self._transport.abort()
