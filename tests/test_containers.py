"""The system in containers: with both versions of Compose, and the limits of containers."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
from conftest import GENERATIONS, Docker, available, free_port, is_open, open_page, wait_until
from playwright.sync_api import Browser, expect

from tools.processes import ROOT

SERVICES = ("api", "simulator", "frontend")
IMAGES = {"api0": "user-api", "sim0": "data-simulator", "frontend0": "frontend-app"}
CONVERGENCE_SECONDS = 20


class Compose:
    """A Compose project with its own name and ports."""

    def __init__(self, command: list[str], docker: Docker) -> None:
        self.project = f"{docker.PREFIX}-compose"
        self.api_port, self.dashboard_port = free_port(), free_port()
        self.api_url = f"http://localhost:{self.api_port}"
        self._command = command  # with the options before the subcommand
        self._docker = docker

    def __call__(self, *arguments: str) -> str:
        """Run a Compose command and return what it prints."""
        done = subprocess.run(
            [*self._command, "--project-name", self.project, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "API_PORT": str(self.api_port),
                "DASHBOARD_PORT": str(self.dashboard_port),
                "SIMULATION_INTERVAL": "0.5",
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self("ps", "--quiet", service).strip()

    def leftovers(self) -> str:
        """Return the containers and networks of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        return self._docker("ps", "--all", "--quiet", "--filter", label) + self._docker(
            "network", "ls", "--quiet", "--filter", label
        )


@pytest.fixture(scope="module", params=GENERATIONS)
def compose(request: pytest.FixtureRequest, docker: Docker) -> Iterator[Compose]:
    """Start the whole system, yield it, and remove it again."""
    compose = Compose(available(request.param), docker)
    try:
        compose("up", "--build", "--detach")
        yield compose
    finally:
        compose("down")
    assert compose.leftovers() == ""
    assert not is_open("127.0.0.1", compose.api_port)


def total(http: httpx2.Client, api_url: str) -> int:
    """Return the number of users; 0 while the API or its database is away."""
    try:
        return int(http.get(f"{api_url}/stats/ages").json().get("total", 0))
    except httpx2.TransportError:
        return 0


def test_the_system_starts(
    compose: Compose, docker: Docker, http: httpx2.Client, browser: Browser
) -> None:
    """Users arrive, /docs works, and a browser on the host shows the histogram."""
    before = total(http, compose.api_url)
    wait_until("more users", lambda: total(http, compose.api_url) > before + 2, 30)
    assert http.get(f"{compose.api_url}/docs").status_code == 200
    wait_until("the dashboard", lambda: healthy(docker, compose.container("frontend")))
    page = browser.new_page()
    open_page(page, f"http://localhost:{compose.dashboard_port}")
    expect(page.get_by_text("Live, updated")).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible(timeout=15_000)
    page.close()


def test_the_compose_file_waits_for_health(compose: Compose, docker: Docker) -> None:
    """Compose starts the simulator and the dashboard only when the API is healthy."""
    health = json.loads(
        docker("inspect", "--format", "{{json .State.Health}}", compose.container("api"))
    )

    assert health["Status"] == "healthy"
    assert (
        "refused the connection"
        not in docker("logs", compose.container("simulator")).split("created")[0]
    )


@pytest.mark.parametrize("service", SERVICES)
def test_least_privilege(compose: Compose, docker: Docker, service: str) -> None:
    """No process is root, has a capability or can get one; memory and processes have limits."""
    container = compose.container(service)
    status = docker("exec", container, "cat", "/proc/1/status")
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    limits = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", container))

    assert values["Uid"].split() == ["10001"] * 4
    assert int(values["CapEff"], 16) == int(values["CapPrm"], 16) == int(values["CapBnd"], 16) == 0
    assert values["NoNewPrivs"] == "1"
    assert 0 < limits["Memory"] <= 1024**3
    assert 0 < limits["PidsLimit"] <= 100
    assert limits["Init"] is True


@pytest.mark.parametrize("service", SERVICES)
def test_writable_folders(compose: Compose, docker: Docker, service: str) -> None:
    """A container can write to /app and /tmp, and to no other of the usual folders."""
    program = (
        "import pathlib, sys\n"
        "for folder in ('/app', '/tmp', '/', '/etc', '/usr/local/bin', '/home', '/root', '/opt'):\n"
        "    try: pathlib.Path(folder, 'probe').touch(); print(folder)\n"
        "    except OSError: pass"
    )

    assert docker("exec", compose.container(service), "python", "-c", program) == "/app\n/tmp"


def test_only_this_machine_can_connect(compose: Compose) -> None:
    """The two ports are open on the loopback address, and on no other one of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends no packet: the system only chooses an address
        address = probe.getsockname()[0]
    assert not address.startswith("127.")

    for port in (compose.api_port, compose.dashboard_port):
        assert is_open("127.0.0.1", port)
        assert not is_open(address, port)


def test_the_simulator_reaches_the_services_only(compose: Compose, docker: Docker) -> None:
    """The simulator publishes no port, and its only network is internal."""

    def internal(service: str) -> set[str]:
        """Return whether each network of a service is internal."""
        form = "{{range .NetworkSettings.Networks}}{{.NetworkID}} {{end}}"
        networks = docker("inspect", "--format", form, compose.container(service)).split()
        return {docker("network", "inspect", "--format", "{{.Internal}}", n) for n in networks}

    assert docker("port", compose.container("simulator")) == ""
    assert internal("simulator") == {"true"}
    assert internal("api") == {"true", "false"}


def has_restarted(docker: Docker, container: str, old_pid: str) -> bool:
    return docker("inspect", "--format", "{{.State.Pid}}", container) not in (old_pid, "0")


def test_a_killed_service_is_restarted(
    compose: Compose, docker: Docker, http: httpx2.Client
) -> None:
    """The restart policy starts a killed process again, and more users arrive."""
    for service in ("simulator", "api"):
        container = compose.container(service)
        pid = docker("inspect", "--format", "{{.State.Pid}}", container)
        # By the engine, which may be in a virtual machine. `docker kill` would prevent the restart.
        kill = ("python", "-c", f"import os; os.kill({pid}, 9)")
        docker("run", "--rm", "--pid=host", "user-api", *kill)
        wait_until(f"{service} to run again", partial(has_restarted, docker, container, pid), 30)
    before = total(http, compose.api_url)
    wait_until("more users", lambda: total(http, compose.api_url) > before, 30)


# ------------------------------------------------------------------------------- with PostgreSQL


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.usefixtures("postgres_image")
def test_users_survive_in_postgresql(generation: str, docker: Docker, http: httpx2.Client) -> None:
    """With the profile, users survive `down` and `up` of all containers."""
    profile = ["--env-file", "deploy/postgres.env", "--profile", "postgres"]
    compose = Compose([*available(generation), *profile], docker)
    try:
        compose("up", "--build", "--detach")
        wait_until("users", lambda: total(http, compose.api_url) > 3, 60)
        ready = http.get(f"{compose.api_url}/ready").json()
        compose("stop", "simulator")
        before = http.get(f"{compose.api_url}/users/").json()
        compose("down")
        compose("up", "--detach", "api", "database")
        wait_until("the API", lambda: total(http, compose.api_url) >= len(before), 60)

        assert ready == {"status": "ready", "store": "postgresql", "durable": True}
        assert http.get(f"{compose.api_url}/users/").json() == before
    finally:
        compose("down", "--volumes")
    assert compose.leftovers() == ""


# -------------------------------------------------------------------------------- one by one


@pytest.fixture
def by_hand(docker: Docker) -> Iterator[Callable[[str], None]]:
    """Yield a function that runs a container as in the README, but detached and on a free port."""
    docker("network", "create", "microservices")
    port = free_port()
    options = {
        "api0": ["--network-alias", "api", "--publish", f"127.0.0.1:{port}:8000"],
        "sim0": ["--env", "API_BASE_URL=http://api0:8000", "--env", "SIMULATION_INTERVAL=0.2"],
        "frontend0": ["--env", "API_URL=http://api:8000/users/"],
    }

    def run(name: str) -> None:
        docker("build", "--quiet", "--tag", IMAGES[name], str(ROOT / FOLDERS[name]))
        common = ["run", "--detach", "--name", name, "--network", "microservices"]
        docker(*common, *options[name], IMAGES[name])

    run.api_url = f"http://localhost:{port}"  # type: ignore[attr-defined]
    try:
        yield run
    finally:
        docker.clean_up()


FOLDERS = {"api0": "api", "sim0": "data_ingestion_simulator", "frontend0": "frontend"}
ORDERS = [("api0", "sim0", "frontend0"), ("frontend0", "sim0", "api0")]


@pytest.mark.parametrize("order", ORDERS, ids=["api-first", "api-last"])
def test_any_order_of_starting(
    by_hand: Callable[[str], None], docker: Docker, http: httpx2.Client, order: tuple[str, ...]
) -> None:
    """Within 20 s after the API is healthy, all three work; also after a restart of the API."""
    api_url: str = by_hand.api_url  # type: ignore[attr-defined]
    for name in order:
        by_hand(name)
    for restart in (False, True):
        if restart:
            docker("restart", "api0")
        wait_until("the API", lambda: total(http, api_url) >= 0 and is_healthy(http, api_url), 30)
        converged_by = time.monotonic() + CONVERGENCE_SECONDS
        wait_until("users", lambda: total(http, api_url) > 0, CONVERGENCE_SECONDS)
        wait_until(
            "the dashboard",
            lambda: healthy(docker, "frontend0"),
            converged_by - time.monotonic(),
        )


def is_healthy(http: httpx2.Client, api_url: str) -> bool:
    try:
        return http.get(f"{api_url}/health").status_code == 200
    except httpx2.TransportError:
        return False


def healthy(docker: Docker, name: str) -> bool:
    return docker("inspect", "--format", "{{.State.Health.Status}}", name) == "healthy"


def test_stopping_is_quick_and_clean(
    by_hand: Callable[[str], None], docker: Docker, http: httpx2.Client
) -> None:
    """`docker stop` of each container takes under two seconds, and needs no SIGKILL."""
    for name in IMAGES:
        by_hand(name)
    wait_until("users", lambda: total(http, by_hand.api_url) > 0, 60)  # type: ignore[attr-defined]
    wait_until("the dashboard", lambda: healthy(docker, "frontend0"))
    for name in ("frontend0", "sim0", "api0"):
        started = time.monotonic()
        docker("stop", name)
        seconds = time.monotonic() - started
        code = docker("inspect", "--format", "{{.State.ExitCode}}", name)

        assert (code in ("0", "143"), seconds < 2) == (True, True), (name, code, seconds)


@pytest.mark.parametrize("image", IMAGES.values())
def test_the_images(docker: Docker, image: str) -> None:
    """Each image has labels, a user, /app, a command in exec form, and a health check."""
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))

    assert config["User"] == "10001"
    assert config["WorkingDir"] == "/app"
    assert config["Cmd"][0] != "/bin/sh"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert "curl" not in str(config["Healthcheck"])
    assert {"title", "description", "licenses"} <= {
        label.rpartition(".")[2] for label in config["Labels"]
    }


TRUSTED = """
import ctypes, glob
libraries = "/usr/local/lib/python3*/*-packages/psycopg_binary.libs/libcrypto*"
lib = ctypes.CDLL(*glob.glob(libraries))
lib.X509_STORE_new.restype = lib.X509_STORE_get0_objects.restype = ctypes.c_void_p
store = ctypes.c_void_p(lib.X509_STORE_new())
lib.X509_STORE_set_default_paths(store)
print(lib.OPENSSL_sk_num(ctypes.c_void_p(lib.X509_STORE_get0_objects(store))))
"""


def test_the_public_certificate_authorities_are_known(docker: Docker) -> None:
    """psycopg's OpenSSL finds them, so that `sslrootcert=system` works."""
    assert int(docker("run", "--rm", "user-api", "python", "-c", TRUSTED)) > 50


@pytest.mark.parametrize(("name", "image"), IMAGES.items())
def test_the_files_of_an_image(docker: Docker, name: str, image: str) -> None:
    """An image has the modules, compiled, their data, and no other file of the service's folder."""
    files = docker("run", "--rm", image, "ls", "-A", "/app").split()
    folder = ROOT / FOLDERS[name]
    modules = {path.name for path in folder.glob("*.py")}
    data = {path.name for path in folder.iterdir() if path.suffix in (".json", ".css", ".js")}
    others = {"requirements.txt", "__pycache__", ".streamlit", "static"}

    assert modules | data <= set(files) <= modules | data | others
    compiled = docker("run", "--rm", image, "ls", "/app/__pycache__").split()
    assert {Path(file).name.split(".")[0] for file in compiled} == {
        Path(module).stem for module in modules
    }
