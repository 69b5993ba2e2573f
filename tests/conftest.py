"""What the system's tests share. They start the services as a user would, and import none."""

import contextlib
import os
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
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

if TYPE_CHECKING:
    from served import Postgres
from tools.processes import OWN_GROUP, ROOT, WINDOWS, end

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GENERATIONS = {"compose-1": ["docker-compose"], "compose-2": ["docker", "compose"]}
STAND_IN = "stand-in-of-the-tests"  # a label of images
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, holds: Callable[[], object], deadline_seconds: float = 60) -> None:
    """Return once `holds()` is true; fail, saying what was waited for, when the deadline passes."""
    deadline = time.monotonic() + deadline_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {deadline_seconds} s: {what}"
        time.sleep(0.05)


class Terminal:
    """A command running as in a terminal of its own, with all that it has printed so far."""

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
        """Send what a person would type."""
        if self.process.stdin:
            self.process.stdin.write(text)
            self.process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C, which reaches everything that runs here, and wait for the end."""
        if sys.platform != "win32":
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(20)

    def hang_up(self) -> None:
        """End the input, as Ctrl-D does, and wait for the end."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(20)

    def count(self, text: str | re.Pattern[str]) -> int:
        """Return how many of the lines so far have a text."""
        search = re.compile(re.escape(text)).search if isinstance(text, str) else text.search
        return sum(search(line) is not None for line in list(self.lines))

    def wait_for(
        self, text: str | re.Pattern[str], times: int = 1, deadline_seconds: float = 60
    ) -> None:
        """Return once a text has been printed so many times."""
        try:
            wait_until(str(text), lambda: self.count(text) >= times, deadline_seconds)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in:\n" + "\n".join(self.lines)) from None

    def stop(self, signum: int = signal.SIGINT, deadline_seconds: float = 20) -> int:
        """Send a signal, as Ctrl-C would, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(deadline_seconds)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """Leave nothing of it behind, whatever state it is in."""
        end(self.process)
        self._reader.join(5)
        if self.process.stdin:
            self.process.stdin.close()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Yield a function that opens a terminal; what still runs in any is killed in the end."""
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
    """`lab.py up` on ports of its own."""

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
    """Yield a client that speaks to this machine only."""
    with httpx2.Client(timeout=10, trust_env=False) as client:
        yield client


def clone(folder: Path) -> Path:
    """Make a folder what a fresh clone would be: the files that git knows, as they are now."""
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
    """Return a folder as a reader has it who has just cloned the repository."""
    return clone(tmp_path / f"{Docker.PREFIX}-clone")


@pytest.fixture
def search_path(tmp_path: Path) -> str:
    """Return a PATH on which `python` is this Python, as the documents say it, outside any venv."""
    commands = tmp_path / "bin"
    commands.mkdir()
    base = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    for name in ("python", "python3"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
        (commands / name).chmod(0o755)
    return f"{commands}{os.pathsep}{os.environ['PATH']}"


def refuse_taken_ports(*ports: int) -> None:
    """Skip where the ports that the documents name are in use by something else."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port}, which the documents name, is in use")


class Docker:
    """The Docker engine of this machine."""

    NAMES = ("api0", "sim0", "frontend0")
    PREFIX = "labtest"  # of the names of whatever else tests make

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run a docker command and return what it prints."""
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or not check, f"docker {words}: {done.stderr}"
        return done.stdout.strip()

    def clean_up(self) -> None:
        """Remove what a document leaves behind when it fails half way."""
        self("rm", "--force", *self.NAMES, check=False)
        self("network", "rm", "microservices", check=False)

    def remove_leftovers(self) -> None:
        """Remove what a run of these tests left behind when it was killed.

        Its containers start again with the engine, and hold the images that a document removes.
        """
        named = ("--quiet", "--filter", f"name=^/?{self.PREFIX}")
        for container in self("ps", "--all", *named).split():
            self("rm", "--force", "--volumes", container)
        for kind in ("network", "volume"):
            for each in self(kind, "ls", *named).split():
                self(kind, "rm", each)


@pytest.fixture(scope="session")
def docker() -> Docker:
    """Return the Docker engine, or skip where there is none."""
    docker = Docker()
    if not shutil.which("docker"):
        pytest.skip("there is no Docker on this machine")
    if docker("version", "--format", "{{.Server.Os}}", check=False) != "linux":
        pytest.skip("there is no Docker engine for Linux containers on this machine")
    docker.remove_leftovers()
    taken = set(docker("ps", "--all", "--format", "{{.Names}}").split()) & set(docker.NAMES)
    if taken:
        pytest.skip(f"containers that the documents name are there already: {taken}")
    return docker


@pytest.fixture(scope="session")
def native_engine(docker: Docker) -> None:
    """Skip where Docker is a machine of its own, as Docker Desktop is.

    Its containers' addresses cannot be called from here, and files look to them as if they were
    their own.
    """
    desktop = docker("info", "--format", "{{.OperatingSystem}}") == "Docker Desktop"
    if desktop or not sys.platform.startswith("linux"):
        pytest.skip("the Docker engine is not this machine's own")


def available(generation: str) -> list[str]:
    """Return the command of a generation, or skip where it is not installed."""
    command = GENERATIONS[generation]
    told = ""
    if shutil.which(command[0]):
        version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
        told = version.stdout.removeprefix("v")
    if told.startswith("1.") != (generation == "compose-1") or not told:
        pytest.skip(f"there is no `{' '.join(command)}` of that generation on this machine")
    if subprocess.run([*command, "ps"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"`{' '.join(command)}` does not come to terms with this machine's engine")
    return command


def is_open(host: str, port: int) -> bool:
    """Return whether a connection can be made."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def official_or_stand_in(docker: Docker, image: str, folder: str) -> str:
    """Return the image: the official one, or where it cannot be had the stand-in from a folder."""

    def is_official() -> bool:
        labels = docker("image", "inspect", "--format", "{{.Config.Labels}}", image, check=False)
        return labels != "" and STAND_IN not in labels

    if not is_official():
        docker("pull", "--quiet", image, check=False)
    # A stand-in of an earlier run may be an older one: built again, it is not.
    if not is_official():
        label = f"--label={STAND_IN}"
        docker("build", "--quiet", label, "--tag", image, str(ROOT / "tests" / folder))
    return image


@pytest.fixture(scope="session")
def postgres_image(docker: Docker) -> str:
    """Return the database's image."""
    return official_or_stand_in(docker, "postgres:17", "postgres")


@pytest.fixture(scope="session")
def haproxy_image(docker: Docker) -> str:
    """Return the edge's image."""
    return official_or_stand_in(docker, "haproxy:3.0-alpine", "haproxy")


@pytest.fixture(scope="session")
def prometheus_image(docker: Docker) -> str:
    """Return the image of who collects the metrics."""
    return official_or_stand_in(docker, "prom/prometheus", "prometheus")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield a browser, as installed on this machine."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(page: Page, url: str) -> None:
    """Open a page; again if the network of this machine changed meanwhile.

    It does when a container starts or stops anywhere on the machine, and Chromium then gives up
    what it was loading.
    """
    for _ in range(3):
        with contextlib.suppress(AssertionError, Error):
            page.goto(url)
            expect(page.get_by_role("heading").first).to_be_visible(timeout=10_000)
            return
    raise AssertionError(f"{url} shows no heading")


@pytest.fixture(params=["base", "overlays/local", "overlays/production"])
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the Kubernetes manifests of the base, and of each overlay."""
    from manifests import rendered  # it needs pytest's rewritten asserts, as all helpers here

    return deepcopy(rendered(request.param))


@pytest.fixture
def postgres() -> Iterator["Postgres"]:
    """Yield a PostgreSQL server with a switch."""
    from served import Postgres  # which needs this file

    server = Postgres()
    yield server
    server.remove()
