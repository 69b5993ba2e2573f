"""HTTP/1.1 on asyncio's sockets, parsed by httptools. Why without an HTTP client: docs/adr/0015."""

import asyncio
import errno
import json
import re
import socket
import ssl
import time
from calendar import timegm
from email.utils import parsedate
from typing import Any
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from client import PAGE, ApiError, NotConnected, Response, now
from ledger import Ledger

CONNECT_TIMEOUT_SECONDS, RESPONSE_TIMEOUT_SECONDS = 3.0, 10.0
INTRODUCTION_SECONDS, IDLE_CONNECTION_SECONDS = 2.0, 2.0  # uvicorn closes idle ones after 5 s
TOO_SLOW = f"gave no response within {RESPONSE_TIMEOUT_SECONDS:g} s"
REFUSED = f"[Errno {errno.ECONNREFUSED}]"
LARGEST_RESPONSE_BYTES = 256 * 1024  # the response to a batch has up to 10,000 ids


class Connection:
    """Sends requests to the API at `base_url`. Requests at the same time have one socket each."""

    def __init__(self, base_url: str, ledger: Ledger, token: str | None = None) -> None:
        url = urlsplit(base_url)
        tls = ssl.create_default_context() if url.scheme.lower() == "https" else None
        self._address, self._tls = (url.hostname or "", url.port or (443 if tls else 80)), tls
        self._path, self._token = url.path, (token or "").encode()
        self._headers = f"Host: {url.netloc}\r\nAccept: application/json\r\n"
        self._headers += f"Authorization: Bearer {token}\r\n" if token else ""
        self._idle: list[_Socket] = []
        self._ledger, self._introduce_at = ledger, 0.0

    async def exchange(self, method: str, target: str, request_id: str, body: bytes) -> Response:
        """Send a request once (`target` is percent-encoded). Raises ApiError without a response."""
        kind = "Content-Type: application/json\r\n" if body else ""
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} {self._path}{target} HTTP/1.1\r\n{self._headers}{kind}{length}"
        started = now()
        if started >= self._introduce_at:
            head += f"X-Simulator: {self._ledger.describe(started)}\r\n"
            self._introduce_at = started + INTRODUCTION_SECONDS
        request = f"{head}X-Request-ID: {request_id}\r\n\r\n".encode() + body
        connected = await self._connect()
        try:
            status, headers, content = await connected.send(request)
            self._ledger.statuses[status] += 1
        finally:
            self._ledger.sent_bytes += len(request)
            self._ledger.received_bytes += connected.received_bytes
            if connected.reusable:
                connected.idle_since = now()
                self._idle.append(connected)
            else:
                connected.abort()
        check_status(status, headers)
        if self._token:  # the API's message may be printed, and may contain the token
            content = content.replace(self._token, b"***")
        return Response(status, json_value(content, status))

    async def _connect(self) -> "_Socket":
        """The last idle connection, or a new one."""
        while self._idle:
            last = self._idle.pop()
            if last.reusable and now() - last.idle_since < IDLE_CONNECTION_SECONDS:
                return last
            last.abort()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                # A host name may have several addresses: after 0.25 s the next one is tried, too.
                options: dict[str, Any] = {"ssl": self._tls, "happy_eyeballs_delay": 0.25}
                return (await loop.create_connection(_Socket, *self._address, **options))[1]
        except TimeoutError:
            reason = f"gave no connection within {CONNECT_TIMEOUT_SECONDS:g} s"
        except (socket.gaierror, UnicodeError):
            reason = "has a host name that cannot be looked up"
        except ssl.SSLError:
            reason = "cannot be trusted over TLS"
        except OSError as error:  # its text may be about several addresses
            refused = isinstance(error, ConnectionRefusedError) or REFUSED in str(error)
            reason = "refused the connection" if refused else f"cannot be reached ({error})"
        raise NotConnected(reason)


class _Socket(asyncio.Protocol):
    """A socket for one request at a time. The parser calls the methods `on_...`, asyncio others."""

    reusable = False
    idle_since = 0.0
    _response: "asyncio.Future[tuple[int, dict[str, str], bytearray]] | None" = None

    async def send(self, request: bytes) -> tuple[int, dict[str, str], bytearray]:
        """Send a request; return the status, headers and body of its response."""
        loop = asyncio.get_running_loop()
        self.on_message_begin()
        self.received_bytes = 0
        self._response = loop.create_future()
        timer = loop.call_later(RESPONSE_TIMEOUT_SECONDS, self.abort, TOO_SLOW)
        try:
            self._transport.write(request)
            return await self._response
        finally:
            timer.cancel()
            self._response = None

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._parser = HttpResponseParser(self)
        self.on_message_begin()

    def data_received(self, data: bytes) -> None:
        if not self._response or self._response.done():
            self.reusable = False  # data without a request
            return
        self.received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.abort("responded with something that is not HTTP")
        if self.received_bytes > LARGEST_RESPONSE_BYTES:
            self.abort(f"responded with more than {LARGEST_RESPONSE_BYTES // 1024} KiB")

    def connection_lost(self, error: Exception | None) -> None:
        no_length = not {"Content-Length", "Transfer-Encoding"} & self._headers.keys()
        if error is None and self._status and no_length:  # its end is the close (RFC 9112, 6.3)
            self.on_message_complete()
        part = "in the middle of" if self._response and self.received_bytes else "without"
        self.abort(f"closed the connection {part} a response")

    def on_message_begin(self) -> None:
        self.reusable = False  # also if this is a second response, which was not requested
        self._status, self._headers, self._body = 0, dict[str, str](), bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").title()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if 100 <= self._status < 200:  # another response follows
            self._status = 0
        elif self._response and not self._response.done():
            self.reusable = self._parser.should_keep_alive()
            self._response.set_result((self._status, self._headers, self._body))

    def abort(self, reason: str = "was not awaited") -> None:
        """Close the socket; the current request raises ApiError."""
        self.reusable = False
        if self._response and not self._response.done():
            self._response.set_exception(ApiError(reason))
        self._transport.abort()


def check_status(status: int, headers: dict[str, str]) -> None:
    """Raise ApiError for a status that may be different after a retry; 507 (full) is not."""
    if 300 <= status < 400:  # without its target address, which may contain the user's name
        raise ApiError(f"responded with {status}, a redirect, which is not followed")
    if (not 200 <= status < 500 or status in (408, 429)) and status not in (501, 507):
        raise ApiError(f"responded with {status}", retry_after_seconds(headers))


def retry_after_seconds(headers: dict[str, str]) -> float:
    """Seconds to wait by Retry-After, a number or a date (RFC 9110, 10.2.3); 0 without one."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, timegm(parsedate(value) or ()) - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def json_value(body: bytes | bytearray, status: int) -> object:
    """The JSON in a body, or None; `PAGE` if a 2xx has HTML."""
    try:
        return json.loads(body.decode()) if body else None
    except (ValueError, RecursionError):
        return PAGE if status < 300 and body.lstrip().startswith(b"<") else None
