"""Fixtures of the system tests, which start the services as a user does, and import none."""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, expect, sync_playwright

from tools.processes import OWN_GROUP, ROOT, WINDOWS, end

if TYPE_CHECKING:
    from production import Caller, Production
    from served import Postgres

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GENERATIONS = {"compose-1": ["docker-compose"], "compose-2": ["docker", "compose"]}
REPLACEMENT = "replacement-of-the-tests"  # a label of images
# Each worker has its own. Systems give outgoing connections higher ones (Linux from 32,768).
FIRST_PORT = 10_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = itertools.cycle(random.sample(range(FIRST_PORT, FIRST_PORT + 1_000), 1_000))
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)


@pytest.hookimpl(wrapper=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Run the tests of containers and of browsers, which a new container disturbs, one by one."""
    for item in items:
        if {"docker", "playwright"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.xdist_group("docker"))
    yield


def free_port() -> int:
    """Return a port that is free now, and that no other worker of the tests chooses."""
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            break
    return port


def wait_until(what: str, holds: Callable[[], object], deadline_seconds: float = 60) -> None:
    """Return when `holds()` is true; fail with the name of the condition after the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {deadline_seconds} s: {what}"
        time.sleep(0.05)


class Terminal:
    """A command that runs as in a new terminal, and the lines that it has printed."""

    def __init__(self, command: list[str], folder: str | Path, **variables: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=ROOT / folder,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            **OWN_GROUP,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.process.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                self.lines.append(line.rstrip())

    def type(self, text: str) -> None:
        """Send text to the input."""
        if self.process.stdin:
            self.process.stdin.write(text)
            self.process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C, which reaches the whole process group, and wait for the end."""
        if sys.platform != "win32":
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(20)

    def hang_up(self) -> None:
        """End the input, as Ctrl-D does, and wait for the end."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(20)

    def count(self, text: str | re.Pattern[str]) -> int:
        """Return how many lines contain a text."""
        search = re.compile(re.escape(text)).search if isinstance(text, str) else text.search
        return sum(search(line) is not None for line in list(self.lines))

    def wait_for(
        self, text: str | re.Pattern[str], times: int = 1, deadline_seconds: float = 60
    ) -> None:
        """Return when a number of lines contain a text."""
        try:
            wait_until(str(text), lambda: self.count(text) >= times, deadline_seconds)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in:\n" + "\n".join(self.lines)) from None

    def stop(self, signum: int = signal.SIGINT, deadline_seconds: float = 20) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(deadline_seconds)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """End the process and its children, in whatever state they are."""
        end(self.process)
        self._reader.join(5)
        if self.process.stdin:
            self.process.stdin.close()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Yield a function that opens a terminal; at the end all of them are closed."""
    opened: list[Terminal] = []

    def start(*command: str, folder: str | Path = ROOT, **variables: str) -> Terminal:
        opened.append(Terminal(list(command), folder, **variables))
        return opened[-1]

    yield start
    for each in opened:
        each.kill()


def service_python(service: str) -> str:
    """Return the Python of a service's environment, which `lab.py test` has made."""
    return str(ROOT / service / ".venv" / ("Scripts/python.exe" if WINDOWS else "bin/python"))


class Lab:
    """`lab.py up` on free ports."""

    def __init__(
        self,
        start: Callable[..., Terminal],
        folder: Path = ROOT,
        deadline_seconds: float = 60,
        **variables: str,
    ) -> None:
        self.api_port, self.dashboard_port = free_port(), free_port()
        self.api_url = f"http://localhost:{self.api_port}"
        self.dashboard_url = f"http://localhost:{self.dashboard_port}"
        ports = ["--api-port", str(self.api_port), "--dashboard-port", str(self.dashboard_port)]
        self.terminal = start(sys.executable, "lab.py", "up", *ports, folder=folder, **variables)
        self.terminal.wait_for("Ctrl-C stops everything", deadline_seconds=deadline_seconds)


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    """Yield a client that uses no proxy."""
    with httpx2.Client(timeout=10, trust_env=False) as client:
        yield client


def clone(folder: Path) -> Path:
    """Copy the files of the repository, as they are now, into a folder like a new clone."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with a new clone of the repository."""
    return clone(tmp_path / f"{Docker.PREFIX}-clone")


@pytest.fixture
def search_path(tmp_path: Path) -> str:
    """Return a PATH where `python` is this Python, outside any virtual environment."""
    commands = tmp_path / "bin"
    commands.mkdir()
    base = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    for name in ("python", "python3"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
        (commands / name).chmod(0o755)
    return f"{commands}{os.pathsep}{os.environ['PATH']}"


class Docker:
    """The Docker engine of this machine."""

    NAMES = ("api0", "sim0", "frontend0")
    PREFIX = "labtest"  # of the other names that tests create

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run a docker command and return what it prints."""
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or not check, f"docker {arguments}: {done.stderr}"
        return done.stdout.strip()

    def clean_up(self) -> None:
        """Remove what a document that failed has left."""
        self("rm", "--force", *self.NAMES, check=False)
        self("network", "rm", "microservices", check=False)

    def remove_leftovers(self) -> None:
        """Remove what a killed run has left: its containers start again with the engine."""
        named = ("--quiet", "--filter", f"name=^/?{self.PREFIX}")
        for container in self("ps", "--all", *named).split():
            self("rm", "--force", "--volumes", container)
        for kind in ("network", "volume"):
            for each in self(kind, "ls", *named).split():
                self(kind, "rm", each)


@pytest.fixture(scope="session")
def docker() -> Docker:
    """Return the Docker engine, or skip without one."""
    docker = Docker()
    if not shutil.which("docker"):
        pytest.skip("Docker is not installed")
    if docker("version", "--format", "{{.Server.Os}}", check=False) != "linux":
        pytest.skip("no Docker engine for Linux containers is running")
    docker.remove_leftovers()
    taken = set(docker("ps", "--all", "--format", "{{.Names}}").split()) & set(docker.NAMES)
    if taken:
        pytest.skip(f"containers of the documents exist already: {taken}")
    return docker


@pytest.fixture(scope="session")
def native_engine(docker: Docker) -> None:
    """Skip if Docker runs in a virtual machine: the host cannot reach its containers."""
    desktop = docker("info", "--format", "{{.OperatingSystem}}") == "Docker Desktop"
    if desktop or not sys.platform.startswith("linux"):
        pytest.skip("the Docker engine runs in a virtual machine")


def available(generation: str) -> list[str]:
    """Return the command of a Compose generation, or skip if it is not installed."""
    command = GENERATIONS[generation]
    found = ""
    if shutil.which(command[0]):
        version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
        found = version.stdout.removeprefix("v")
    if found.startswith("1.") != (generation == "compose-1") or not found:
        pytest.skip(f"`{' '.join(command)}` of that generation is not installed")
    if subprocess.run([*command, "ps"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"`{' '.join(command)}` does not work with this machine's engine")
    return command


def is_open(host: str, port: int) -> bool:
    """Return whether a connection can be made."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def official_or_replacement(docker: Docker, image: str, folder: str) -> str:
    """Return the official image or, if it cannot be pulled, the one of a folder here."""

    def is_official() -> bool:
        labels = docker("image", "inspect", "--format", "{{.Config.Labels}}", image, check=False)
        return labels != "" and REPLACEMENT not in labels

    if not is_official():
        docker("pull", "--quiet", image, check=False)
    # The replacement of an earlier run may be out of date, so build it again.
    if not is_official():
        label = f"--label={REPLACEMENT}"
        docker("build", "--quiet", label, "--tag", image, str(ROOT / "tests" / folder))
    return image


@pytest.fixture(scope="session")
def postgres_image(docker: Docker) -> str:
    """Return the database's image."""
    return official_or_replacement(docker, "postgres:17", "postgres")


@pytest.fixture(scope="session")
def haproxy_image(docker: Docker) -> str:
    """Return the load balancer's image."""
    return official_or_replacement(docker, "haproxy:3.0-alpine", "haproxy")


@pytest.fixture(scope="session")
def prometheus_image(docker: Docker) -> str:
    """Return the image of Prometheus."""
    return official_or_replacement(docker, "prom/prometheus", "prometheus")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Yield what starts browsers: a process can have it only once."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Yield the browser of this machine."""
    with playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser:
        yield browser


def open_page(page: Page, url: str) -> None:
    """Open a page; retry if the machine's network changes meanwhile.

    It changes when a container starts or stops, and Chromium then aborts the loading.
    """
    for _ in range(3):
        with contextlib.suppress(AssertionError, Error):
            page.goto(url)
            expect(page.get_by_role("heading").first).to_be_visible(timeout=30_000)
            return
    raise AssertionError(f"{url} shows no heading")


@pytest.fixture(scope="session")
def production(
    docker: Docker, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator["Production"]:
    """Yield the production system with three replicas, in a new clone."""
    from production import Production  # it imports this file

    for image in ("postgres_image", "haproxy_image", "prometheus_image"):
        request.getfixturevalue(image)
    folder = tmp_path_factory.mktemp("production") / "clone"
    production = Production(folder, available("compose-1"), docker)
    try:
        production.up()
        yield production
    finally:
        production.down()


@pytest.fixture(params=GENERATIONS)
def either(production: "Production", request: pytest.FixtureRequest) -> Iterator["Production"]:
    """Yield the same system, used with each generation of Compose."""
    before, production.command = production.command, available(request.param)
    yield production
    production.command = before


@pytest.fixture
def caller(production: "Production") -> Iterator["Caller"]:
    """Yield a client of the load balancer."""
    from production import Caller

    with contextlib.closing(Caller(production.port)) as caller:
        yield caller


@pytest.fixture(params=["base", "overlays/local", "overlays/production"])
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the Kubernetes manifests of the base, and of each overlay."""
    from manifests import rendered  # it needs pytest's rewritten asserts, as all helpers here

    return deepcopy(rendered(request.param))


@pytest.fixture
def postgres() -> Iterator["Postgres"]:
    """Yield a PostgreSQL server."""
    from served import Postgres  # it imports this file

    server = Postgres()
    yield server
    server.remove()
