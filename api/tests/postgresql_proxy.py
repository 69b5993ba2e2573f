"""A server in front of PostgreSQL that is wrong or slow, as rewriting engines and networks are.

A trigger cannot do this: in PostgreSQL itself the row count and RETURNING always agree. In Citus
they did not: a count was the number of rows that the statement had sent.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import parse_qs, urlsplit

COMPLETE = b"C"  # the type of the message with the row count, such as INSERT 0 5


class Proxy(ThreadingTCPServer):
    """Passes everything on to the socket of a PostgreSQL, except the row counts."""

    daemon_threads = True

    def __init__(self, url: str, row_count: int | None, delay_seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        [folder] = parse_qs(urlsplit(url).query)["host"]
        self.database = f"{folder}/.s.PGSQL.5432"
        self.row_count, self.delay_seconds = row_count, delay_seconds
        self.changed = 0  # row counts

    @property
    def url(self) -> str:
        """The address of the database behind this server."""
        port = self.server_address[1]
        return f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"


class Session(BaseRequestHandler):
    """A connection of a client, with its own connection to PostgreSQL."""

    server: Proxy

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as self.database, suppress(OSError):
            self.database.connect(self.server.database)
            threading.Thread(target=self.pass_requests, daemon=True).start()
            responses = self.database.makefile("rb")
            while header := responses.read(5):
                body = responses.read(int.from_bytes(header[1:]) - 4)
                if header[:1] == COMPLETE and self.server.row_count is not None:
                    body = re.sub(rb"\d+\0$", b"%d\0" % self.server.row_count, body)
                    header = COMPLETE + (len(body) + 4).to_bytes(4)
                    self.server.changed += 1
                self.request.sendall(header + body)
        self.request.close()

    def pass_requests(self) -> None:
        with suppress(OSError):
            while sent := self.request.recv(65_536):
                time.sleep(self.server.delay_seconds)
                self.database.sendall(sent)
            self.database.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(url: str, row_count: int | None = None, delay_seconds: float = 0) -> Iterator[Proxy]:
    """Yield a server that replaces each row count, or delays each request."""
    with Proxy(url, row_count, delay_seconds) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
