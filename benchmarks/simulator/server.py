"""An API that does next to nothing: what a client can send is not held back by what it is sent to.

It keeps ids, answers creates with 201, and tells how many there were and how long they took.
"""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

Send = Callable[[dict[str, Any]], Awaitable[None]]

seen: set[bytes] = set()
times = {"first": 0.0, "last": 0.0}


async def app(scope: dict[str, Any], _receive: object, send: Send) -> None:
    """ASGI: POST /users/, GET /health, and for the benchmark GET /tally, which resets the tally."""
    if scope["type"] != "http":
        return
    path, status, body = scope["path"], 200, b'{"status": "healthy"}'
    if path == "/users/":
        user_id = parse_qs(scope["query_string"])[b"user_id"][0]
        status = 409 if user_id in seen else 201
        times["last"] = time.monotonic()
        if not seen:
            times["first"] = times["last"]
        seen.add(user_id)
        body = b'{"user_id": %b}' % user_id
    elif path == "/tally":
        seconds = times["last"] - times["first"]
        body = json.dumps({"created": len(seen), "seconds": seconds}).encode()
        seen.clear()
    elif path == "/users/batch":
        status, body = 405, b'{"detail": "Method Not Allowed"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
