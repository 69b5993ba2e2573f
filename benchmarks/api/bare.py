"""No framework: the fastest that the server allows. Shares are relative to it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import rules

Send = Callable[[dict[str, Any]], Awaitable[None]]
Response = tuple[int, bytes]

HEALTHY = b'{"status":"healthy"}'
users: dict[int, tuple[str, int]] = {}


async def app(scope: dict[str, Any], _receive: object, send: Send) -> None:
    """ASGI."""
    if scope["type"] != "http":
        return
    try:
        status, body = answer(scope["method"], scope["path"], scope["query_string"])
    except rules.Invalid:
        status, body = 422, b'{"detail":"invalid"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": headers if status != 204 else [],
        }
    )
    await send({"type": "http.response.body", "body": body})


def answer(method: str, path: str, query: bytes) -> Response:
    """Return a status and a body. Raises Invalid."""
    if path == "/health":
        return 200, HEALTHY
    if path == "/users/":
        return create(query) if method == "POST" else (200, listing())
    if not path.startswith("/users/"):
        return 404, b'{"detail":"Not Found"}'
    user_id = rules.user_id(path[7:])
    if method == "PUT":
        name, age = name_and_age(dict(parse_qsl(query.decode("ascii"), True)))
    if user_id not in users:
        return 404, b'{"detail":"User %d not found"}' % user_id
    if method == "DELETE":
        del users[user_id]
        return 204, b""
    if method == "PUT":
        users[user_id] = (name, age)
    return 200, user(user_id)


def create(query: bytes) -> Response:
    parameters = dict(parse_qsl(query.decode("ascii"), True))
    user_id = rules.user_id(parameters.get("user_id"))
    record = name_and_age(parameters)
    if user_id in users:
        return 409, b'{"detail":"User %d already exists"}' % user_id
    users[user_id] = record
    return 201, user(user_id)


def name_and_age(parameters: dict[str, str]) -> tuple[str, int]:
    return rules.name(parameters.get("name")), rules.age(parameters.get("age"))


def user(user_id: int) -> bytes:
    name, age = users[user_id]
    return f'{{"user_id":{user_id},"name":{json.dumps(name)},"age":{age}}}'.encode()


def listing() -> bytes:
    return json.dumps({i: {"name": name, "age": age} for i, (name, age) in users.items()}).encode()
