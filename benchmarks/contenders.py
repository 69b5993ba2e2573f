"""The servers that are compared, and the check that all give the same responses."""

import json
import shutil
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from benchmarks.servers import HERE, Contender, Server
from tools.environments import environment, progress
from tools.processes import ROOT, LabError, say

API = ROOT / "api"
OTHERS = HERE / "api"
OURS, FIRST, STOCK, BARE = "ours", "first version", "stock FastAPI", "bare ASGI"
LISTEN = ("--host", "127.0.0.1", "--port", "{port}")
QUIET = (*LISTEN, "--no-access-log", "--log-level", "warning")


def ours(name: str = OURS, *options: str, **variables: str) -> Contender:
    """Return the API as it is used: with request id, metrics and access log."""
    python = environment(API, "requirements.txt")
    variables = {"MAX_USERS": "999999999", **variables}
    command = (python, "-m", "uvicorn", "main:app", *LISTEN, *options)
    return Contender(name, command, API, variables)


def first_version(**variables: str) -> Contender:
    """Return the course's first version, under the server that its README names."""
    command = (others_python(), "-m", "fastapi", "run", "first.py", *LISTEN)
    return Contender(FIRST, command, OTHERS, variables)


def on_uvicorn(name: str, module: str) -> Contender:
    """Return an ASGI application under the API's own server, without any log."""
    return Contender(name, (others_python(), "-m", "uvicorn", f"{module}:app", *QUIET), OTHERS)


def others_python() -> str:
    """Return the Python of the other contenders."""
    return environment(OTHERS, "requirements.txt")


def fastify() -> list[Contender]:
    """Return Fastify, with the packages of its lock, or an empty list without Node."""
    folder = OTHERS / "fastify"
    if not (shutil.which("node") and shutil.which("npm")):
        say("Fastify is left out: Node is not installed")
        return []
    installed, lock = folder / "node_modules" / "lab-lock.json", folder / "package-lock.json"
    if not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
        npm = ["npm", "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
        progress("fastify: installing", npm)
        shutil.copy(lock, installed)
    return [Contender("Fastify", ("node", "app.js", "{port}"), folder)]


def contenders() -> list[Contender]:
    """Return all servers that can run on this machine."""
    python = others_python()
    gunicorn = "gunicorn --worker-class gthread --threads 8 --log-level warning --bind"
    return [
        ours(),
        first_version(),
        on_uvicorn(STOCK, "stock"),
        on_uvicorn(BARE, "bare"),
        on_uvicorn("Litestar", "litestar_app"),
        on_uvicorn("BlackSheep", "blacksheep_app"),
        Contender("Sanic", (python, "sanic_app.py", "{port}"), OTHERS),
        Contender(
            "Flask",
            (python, "-m", *gunicorn.split(), "127.0.0.1:{port}", "flask_app:app"),
            OTHERS,
        ),
        *fastify(),
    ]


# ------------------------------------------------------------------------------- same responses

ADA = {"user_id": 7, "name": "Ada", "age": 36}
TALL = {"user_id": 2**53 - 1, "name": "Zoë 李", "age": 150}
LONG = "n" * 100
Probe = tuple[str, str, int, Any]  # method, path, status, body (None: any body)


def create(user_id: object, name: str, age: object) -> str:
    """Return the address that creates a user."""
    return f"/users/?user_id={user_id}&name={quote(name)}&age={age}"


PROBES: Sequence[Probe] = (
    ("GET", "/health", 200, {"status": "healthy"}),
    ("GET", "/users/", 200, {}),
    ("POST", create(7, "Ada", 36), 201, ADA),
    ("POST", create(7, "Eve", 20), 409, None),
    ("POST", create(2**53 - 1, "Zoë 李", 150), 201, TALL),
    ("POST", create(0, LONG, 0), 201, {"user_id": 0, "name": LONG, "age": 0}),
    ("GET", "/users/7", 200, ADA),
    ("GET", f"/users/{2**53 - 1}", 200, TALL),
    ("GET", "/users/8", 404, {"detail": "User 8 not found"}),
    ("PUT", "/users/7?name=Ada%20L&age=37", 200, {"user_id": 7, "name": "Ada L", "age": 37}),
    ("PUT", "/users/8?name=Ada&age=37", 404, {"detail": "User 8 not found"}),
    *(("GET", f"/users/{bad}", 422, None) for bad in ("-1", "x", 2**53)),
    *(("POST", create(bad, "Ada", 36), 422, None) for bad in ("-1", "x", "", 2**53)),
    *(("POST", create(9, "Ada", bad), 422, None) for bad in ("-1", "x", "", 151)),
    *(("POST", create(9, bad, 36), 422, None) for bad in ("", "n" * 101)),
    ("POST", "/users/?user_id=9&name=Ada", 422, None),
    ("POST", "/users/?user_id=9&age=36", 422, None),
    ("POST", "/users/?name=Ada&age=36", 422, None),
    ("PUT", "/users/7?name=Ada&age=151", 422, None),
    ("PUT", "/users/7?age=36", 422, None),
    ("GET", "/users/9", 404, {"detail": "User 9 not found"}),
    (
        "GET",
        "/users/",
        200,
        {
            "7": {"name": "Ada L", "age": 37},
            str(2**53 - 1): {"name": "Zoë 李", "age": 150},
            "0": {"name": LONG, "age": 0},
        },
    ),
    *(("DELETE", f"/users/{user_id}", 204, "") for user_id in (7, 0, 2**53 - 1)),
    ("DELETE", "/users/7", 404, {"detail": "User 7 not found"}),
    ("GET", "/users/", 200, {}),
)


def check(server: Server) -> None:
    """Raise LabError, which names the first difference, if an empty server fails a probe."""
    for method, path, status, body in PROBES:
        got_status, got = server.ask(method, path)
        if got_status == status and (body is None or decoded(got) == body):
            continue
        raise LabError(
            f"bench: {server.name} gives another response: {method} {path[:60]} must be {status}"
            f" {'' if body is None else body}, and was {got_status} {got[:200]!r}"
        )


def decoded(body: bytes) -> Any:
    """Return the JSON value of a body, or its text if it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
