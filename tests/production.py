"""The production system for tests: started as docs/production.md says, and put under load."""

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

from conftest import Docker, clone, free_port, wait_until

TOKEN = "t" * 32
SHELLS_TOKEN = "of-the-operators-shell"  # noqa: S105 - no container may have it
# With characters that have a meaning in a URL.
PASSWORD = "p@ss/w:rd%"  # noqa: S105


def documented(folder: Path, heading: str) -> str:
    """Return the first shell block under a heading of docs/production.md."""
    text = (folder / "docs/production.md").read_text(encoding="utf-8")
    section = text[text.index(f"\n## {heading}\n") :]
    return section.partition("```bash\n")[2].partition("```")[0]


class Production:
    """A Compose project in a new clone, with its own secrets and its own port."""

    def __init__(self, folder: Path, command: list[str], docker: Docker) -> None:
        self.folder = clone(folder)
        self.project = f"{docker.PREFIX}-production"
        self.port = free_port()
        self.docker = docker
        self.command = command
        self._variables = {
            **os.environ,
            "API_TOKEN": SHELLS_TOKEN,
            "COMPOSE_FILE": os.pathsep.join(
                ["docker-compose.yml", "deploy/docker-compose.prod.yml"]
            ),
            "COMPOSE_PROJECT_NAME": self.project,
            "EDGE": f"127.0.0.1:{self.port}",
        }
        (self.folder / "secrets").mkdir(mode=0o700)
        self.write_secret("api_token", TOKEN)
        self.write_secret("database_password", PASSWORD)

    def write_secret(self, name: str, secret: str) -> None:
        """Write the file of a secret."""
        path = self.folder / "secrets" / name
        path.write_text(f"{secret}\n")
        path.chmod(0o644)

    def try_compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Compose command and return its result."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def compose(self, *arguments: str) -> str:
        """Run a Compose command and return what it prints."""
        done = self.try_compose(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_documented(self, heading: str, replacements: Sequence[tuple[str, str]] = ()) -> None:
        """Run the shell block under a heading of docs/production.md, with this Compose.

        Names in it can be replaced, so that a test does not disturb other containers.
        """
        block = documented(self.folder, heading)
        block = block.replace("docker-compose ", " ".join(self.command) + " ")
        for was, becomes in replacements:
            assert was in block
            block = block.replace(was, becomes)
        done = subprocess.run(
            ["sh", "-euc", block],
            cwd=self.folder,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "--quiet", service).split()

    def started(self, service: str) -> set[str]:
        """Return the start times of a service's containers."""
        form = "{{.State.StartedAt}}"
        return set(self.docker("inspect", "--format", form, *self.containers(service)).splitlines())

    def up(self) -> None:
        """Start three replicas, and wait until the load balancer uses all of them."""
        self.compose("up", "--build", "--scale", "api=3", "--detach")
        self.wait_for_replicas()

    def wait_for_replicas(self, number: int = 3) -> None:
        """Return when this number of replicas respond."""

        def respond() -> bool:
            with contextlib.closing(Caller(self.port)) as caller:
                replicas = {caller.call("GET", "/health")[2]["X-Replica"] for _ in range(20)}
            return len(replicas - {None}) == number

        wait_until(f"{number} replicas", respond, 90)

    @contextlib.contextmanager
    def service(self) -> Iterator[int]:
        """Yield a port that distributes connections to the ready replicas, as a Service does."""
        name, port = f"{self.project}-service", free_port()
        config = f"{self.folder}/tests/haproxy/service.cfg:/service.cfg:ro"
        [inside] = self.docker(
            "network", "ls", "--quiet", "--filter", f"name=^{self.project}_inside$"
        ).split()
        options = ["--name", name, "--publish", f"127.0.0.1:{port}:8000", "--volume", config]
        self.docker("create", *options, "haproxy:3.0-alpine", "haproxy", "-f", "/service.cfg")
        try:
            self.docker("network", "connect", inside, name)
            self.docker("start", name)
            with contextlib.closing(Caller(port)) as caller:
                wait_until("the service", lambda: caller.call("GET", "/health")[0] == 200, 30)
            yield port
        finally:
            self.docker("rm", "--force", "--volumes", name)

    def down(self) -> None:
        """Remove everything; nothing of the project is left."""
        self.try_compose("down", "--volumes", "--timeout", "1")
        label = f"label=com.docker.compose.project={self.project}"
        # The classroom's volume: one Compose creates it, the other one does not remove it.
        for volume in self.docker("volume", "ls", "--quiet", "--filter", label).split():
            self.docker("volume", "rm", volume)
        assert self.docker("ps", "--all", "--quiet", "--filter", label) == ""
        assert self.docker("network", "ls", "--quiet", "--filter", label) == ""


Response = tuple[int, bytes, http.client.HTTPMessage]


class Caller:
    """A client of the load balancer on one connection, which it opens again when it is lost."""

    def __init__(self, port: int, timeout_seconds: float = 6, token: str = TOKEN) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
        self.opened = 0  # connections so far
        self._token = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, **headers: str) -> Response:
        """Return status, body and headers; status 0 if there was no response."""
        self.opened += self._connection.sock is None
        try:
            self._connection.request(method, path, headers=self._token | headers)
            response = self._connection.getresponse()
            return response.status, response.read(), response.headers
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return 0, repr(error).encode(), http.client.HTTPMessage()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._connection.close()


class Load:
    """Clients that create and read users all the time.

    `acknowledged` has every user that the API confirmed. Clients that retry repeat a request until
    they know its outcome; the others count a failure and continue with the next user. Each client
    keeps its connection until the server closes it; `connections` counts them.
    """

    CLIENTS = 6
    # Two requests a pause from each client: below 500 a second, which the load balancer allows.
    PAUSE_SECONDS = 0.03
    GIVE_UP_SECONDS = 40

    _first_ids = itertools.count(1, 10_000_000)

    def __init__(self, port: int, *, retry: bool) -> None:
        self.acknowledged: dict[str, dict[str, object]] = {}
        self.failures: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.connections = 0
        self._port = port
        self._retry = retry
        self._stop = threading.Event()
        self._ids = itertools.count(next(self._first_ids))
        self._threads = [threading.Thread(target=self._work) for _ in range(self.CLIENTS)]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients inside a with statement."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        caller = Caller(self._port)
        while not self._stop.is_set():
            user_id, age = next(self._ids), random.randrange(100)
            user: dict[str, object] = {"name": f"User {user_id}", "age": age}
            query = urlencode({"user_id": user_id, **user})
            if self._settled(caller, "POST", f"/users/?{query}", user):
                self.acknowledged[str(user_id)] = user
                self._settled(caller, "GET", f"/users/{user_id}", user)
            time.sleep(self.PAUSE_SECONDS)
        self.connections += caller.opened
        caller.close()

    def _settled(self, caller: Caller, method: str, path: str, user: dict[str, object]) -> bool:
        """Call, and retry if this client retries; return whether the user is certainly stored."""
        deadline = time.monotonic() + self.GIVE_UP_SECONDS
        while True:
            status, body, _ = caller.call(method, path)
            self.statuses[status] += 1
            if status in (200, 201):
                if user.items() <= json.loads(body).items():
                    return True
                self.failures[f"{method} returned another user"] += 1
                return False
            if status == 409 and self._retry:  # the lost response was a 201
                method, path = "GET", f"/users/{str(user['name']).split()[1]}"
            elif not self._retry or time.monotonic() > deadline:
                self.failures[f"{method} {status} {body[:100]!r}"] += 1
                return False
            else:
                time.sleep(0.1)

    def check(self, port: int) -> None:
        """Assert that the listing has every acknowledged user, with the acknowledged values."""
        with contextlib.closing(Caller(port, 30)) as caller:
            status, body, _ = caller.call("GET", "/users/")
        assert status == 200
        listing = json.loads(body)
        lost = [i for i, user in self.acknowledged.items() if listing.get(i) != user]
        print(f"{len(self.acknowledged)} acknowledged, {len(lost)} lost, responses {self.statuses}")
        print(f"{self.connections} connections")
        assert lost == []
        assert len(self.acknowledged) > 100, "void: too little traffic"


def exchange(port: int, request: bytes) -> tuple[str, bytes]:
    """Send bytes; return head and body of the response, as far as it comes."""
    response = b""
    address = ("127.0.0.1", port)
    with socket.create_connection(address, 15) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(request)
        while not response.endswith(b"}") and (piece := connection.recv(65_536)):
            response += piece
    head, _, body = response.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body
