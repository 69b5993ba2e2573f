"""The API's log: its lines, for people or for machines, and when they are written.

A line for each request through `logging` would cost more than most requests do. So what it tells
waits for the end of the event loop's turn, when the lines of that turn are put together from parts
that are ready, and written at once. A kill that nothing can answer loses those of one turn.
"""

import asyncio
import json
import logging
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TextIO

log = logging.getLogger("api")

Answered = tuple["Kind", float, str]  # a request that was: its kind, milliseconds, request id


@dataclass(frozen=True, slots=True)
class Kind:
    """What the lines of many requests have in common."""

    text: str
    json: str

    @classmethod
    def of(cls, method: str, route: str, status: int) -> "Kind":
        """Return the kind with its parts of a line made ready."""
        fields = {"method": method, "route": route, "status": status}
        return cls(f"{method} {route} {status}", json.dumps(fields)[1:-1])


class TextLines(logging.Formatter):
    """A plain line for each event."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def access(self, requests: list[Answered]) -> list[str]:
        """Return requests' lines, as `format` would make them, with one time for all."""
        now = time.time()
        begin = f"{_time_text(int(now), self.default_time_format)},{int(now % 1 * 1000):03d} INFO"
        return [
            f"{begin} {kind.text} {milliseconds:.1f} ms {request_id}\n"
            for kind, milliseconds, request_id in requests
        ]


class JsonLines(logging.Formatter):
    """A JSON object a line, for each event."""

    default_time_format = "%Y-%m-%dT%H:%M:%S%z"

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, self.default_time_format),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)

    def access(self, requests: list[Answered]) -> list[str]:
        """Return requests' lines; what they are made of has nothing in it to escape."""
        time_text = _time_text(int(time.time()), self.default_time_format)
        return [
            f'{{"time": "{time_text}", "level": "INFO",'
            f' "message": "{kind.text} {milliseconds:.1f} ms {request_id}", {kind.json},'
            f' "milliseconds": {milliseconds:.1f}, "request_id": "{request_id}"}}\n'
            for kind, milliseconds, request_id in requests
        ]


@lru_cache(maxsize=1)
def _time_text(seconds: int, time_format: str) -> str:
    return time.strftime(time_format, time.localtime(seconds))


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes events at once, and requests' lines at the end of the event loop's turn, in order.

    What cannot be written, to a full disk or a pipe whose reader has gone, is lost: a log is no
    reason for a request to fail, or for a store's thread to end.
    """

    def __init__(self, stream: TextIO, lines: TextLines | JsonLines) -> None:
        super().__init__(stream)
        self.setFormatter(lines)
        self._lines = lines
        self._waiting: list[Answered] = []

    def access(self, kind: Kind, milliseconds: float, request_id: str) -> None:
        """Log a request that has been answered. Called on the event loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((kind, milliseconds, request_id))

    def emit(self, record: logging.LogRecord) -> None:
        """Log an event, after what waits: events of a store's threads come here, too."""
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits."""
        self.acquire()
        try:
            with suppress(OSError, ValueError):  # the latter of a closed file
                self._write()
        finally:
            self.release()

    def _write(self) -> None:
        # In a store's thread, perhaps: what comes meanwhile waits for the next time.
        waiting = self._waiting[:]
        del self._waiting[: len(waiting)]
        if waiting:
            self.stream.write("".join(self._lines.access(waiting)))
        super().flush()


def configure_logging(log_format: str) -> LineHandler:
    """Send the API's log to standard output as `text` or `json`; as `json`, uvicorn's too."""
    handler = LineHandler(sys.stdout, JsonLines() if log_format == "json" else TextLines())
    log.handlers = [handler]
    logging.raiseExceptions = False  # nor for a traceback on stderr
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
    if log_format == "json":
        logging.getLogger("uvicorn").handlers = [handler]
    return handler
