"""Where the system runs besides a plain machine: codespaces, and networks that differ."""

import functools
import hashlib
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import GENERATIONS, Docker, available, wait_until
from facts import FOLDERS, services
from proxies import make_certificate

from tools.processes import ROOT

DEVCONTAINER = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
IMAGES = {"api": "user-api", "simulator": "data-simulator", "frontend": "frontend-app"}
OWN = f"{Docker.PREFIX}-elsewhere"
INDEX = "index.example"
HEALTH = {"user-api": "8000/health", "frontend-app": "8501/_stcore/health"}
# A kernel without IPv6: a socket for it cannot be made (EAFNOSUPPORT).
NO_IPV6 = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 97,
            "args": [{"index": 0, "value": 10, "op": "SCMP_CMP_EQ"}],
        }
    ],
}
posix = pytest.mark.skipif(
    sys.platform == "win32", reason="the scripts of a codespace need a shell"
)


# --------------------------------------------------------------------------------- codespaces


def test_a_codespace_forwards_the_ports() -> None:
    """The ports of both services are forwarded and have a label; the Python is the images' one."""
    labels = {int(port): row["label"] for port, row in DEVCONTAINER["portsAttributes"].items()}
    dockerfile = (ROOT / "api/Dockerfile").read_text(encoding="utf-8")
    python = re.findall(r"PYTHON_VERSION=([\d.]+)", dockerfile)[0]

    assert labels == {8000: "API", 8501: "Dashboard"}
    assert DEVCONTAINER["forwardPorts"] == [8501, 8000]
    assert f"python:{python}-" in DEVCONTAINER["image"]


def public_url(home: Path, **variables: str) -> str:
    """Return PUBLIC_URL in a new terminal of a codespace."""
    create = DEVCONTAINER["postCreateCommand"]
    plain = {"HOME": str(home), "PATH": os.environ["PATH"]}
    subprocess.run(["sh", "-c", create], cwd=ROOT, env=plain, check=True)
    shell = ["bash", "--rcfile", str(home / ".bashrc"), "-ic", "printenv PUBLIC_URL"]
    done = subprocess.run(shell, env=plain | variables, capture_output=True, text=True)
    return str(done.stdout)


@posix
def test_a_codespace_sets_public_url(tmp_path: Path) -> None:
    """Each terminal has it, from the name of the codespace; outside a codespace it is not set."""
    domain = {"GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN": "app.github.dev"}
    found = public_url(tmp_path, CODESPACE_NAME="fuzzy-lab", **domain)

    assert found == (
        "https://fuzzy-lab-8000.app.github.dev,https://fuzzy-lab-8501.app.github.dev\n"
    )
    assert public_url(tmp_path) == ""


# ------------------------------------------------------------------------------ Compose files


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/docker-compose.prod.yml"])
def test_bind_mounts_work_with_selinux(name: str) -> None:
    """Each mounted folder of this repository gets a label that containers may read."""
    for service in services(ROOT, name).values():
        for volume in service.get("volumes", ()):
            assert not volume.startswith("./") or volume.endswith(",z"), volume


@pytest.mark.parametrize("generation", GENERATIONS)
def test_addresses_of_ports_and_networks(generation: str, docker: Docker) -> None:
    """Variables choose where ports are published, and the subnets of the networks."""
    files = ["--file", "docker-compose.yml", "--file", "deploy/subnets.yml"]
    command = [*available(generation), *files, "--project-name", OWN]
    variables = {
        "PUBLISHED_ADDRESS": "127.0.0.9",
        "API_PORT": "18123",
        "INSIDE_SUBNET": "10.254.7.0/28",
        "PUBLISHED_SUBNET": "10.254.7.16/28",
    }
    run = functools.partial(
        subprocess.run, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )
    try:
        done = run([*command, "up", "--no-start", "--build", "api"])
        assert done.returncode == 0, done.stderr
        api = run([*command, "ps", "--all", "--quiet", "api"]).stdout.strip()
        found = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", api))
        networks = docker("network", "ls", "--quiet", "--filter", f"name={OWN}").split()
        form = "{{(index .IPAM.Config 0).Subnet}}"
        subnets = {docker("network", "inspect", "--format", form, each) for each in networks}
    finally:
        run([*command, "down"])

    assert found["PortBindings"]["8000/tcp"] == [{"HostIp": "127.0.0.9", "HostPort": "18123"}]
    assert subnets == {variables["INSIDE_SUBNET"], variables["PUBLISHED_SUBNET"]}


# ------------------------------------------------------------------------------------- images


@pytest.fixture(scope="module")
def images(docker: Docker) -> None:
    """Build the images of the services."""
    for service, folder in FOLDERS.items():
        docker("build", "--quiet", "--tag", IMAGES[service], str(ROOT / folder))


@pytest.fixture
def start(docker: Docker, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Yield a function that starts a container and returns its id."""
    request.getfixturevalue("images")
    started: list[str] = []

    def run(*words: str) -> str:
        started.append(docker("run", "--detach", *words))
        return started[-1]

    yield run
    docker("rm", "--force", *started)


def responds(container: str, url: str) -> bool:
    """Return whether a program in a container gets a page."""
    program = f"from urllib.request import *; urlopen('http://{url}', timeout=5)"
    run = ["docker", "exec", container, "python", "-c", program]
    return subprocess.run(run, capture_output=True).returncode == 0


@pytest.mark.parametrize("image", HEALTH)
def test_an_image_listens_by_both_protocols(start: Callable[..., str], image: str) -> None:
    """In a network with IPv6 only, a service is found; IPv4 works, too."""
    container = start("--sysctl", "net.ipv6.conf.all.disable_ipv6=0", image)
    for host in ("127.0.0.1", "[::1]"):
        url = f"{host}:{HEALTH[image]}"
        wait_until(url, functools.partial(responds, container, url), 30)


@pytest.mark.parametrize("image", HEALTH)
@pytest.mark.usefixtures("native_engine")
def test_an_image_starts_without_ipv6(
    start: Callable[..., str], tmp_path: Path, image: str
) -> None:
    """On a kernel without IPv6, a service listens by IPv4."""
    profile = tmp_path / "seccomp.json"
    profile.write_text(json.dumps(NO_IPV6))
    container = start("--security-opt", f"seccomp={profile}", image)
    url = f"127.0.0.1:{HEALTH[image]}"

    wait_until(url, functools.partial(responds, container, url), 30)
    assert not responds(container, f"[::1]:{HEALTH[image]}")


@pytest.mark.parametrize("image", HEALTH)
def test_a_proxy_is_not_used_for_own_names(start: Callable[..., str], image: str) -> None:
    """Docker may pass proxy variables to containers; a program in them still reaches a service."""
    proxy = ["--env", "HTTP_PROXY=http://127.0.0.1:9", "--env", "http_proxy=http://127.0.0.1:9"]
    container = start(*proxy, image)
    url = f"localhost:{HEALTH[image]}"

    wait_until(url, functools.partial(responds, container, url), 30)
    assert not responds(container, "example.invalid/")


def test_a_stopped_simulator_is_not_healthy(start: Callable[..., str], docker: Docker) -> None:
    """Its check finds a process that does not run, with Docker's init process or without."""
    check = json.loads(
        docker(
            "image", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", IMAGES["simulator"]
        )
    )[1:]
    stops = {"": ["kill", "--signal", "STOP"], "--init": ["exec"]}
    for option, stop in stops.items():
        container = start(*filter(None, [option]), IMAGES["simulator"])
        healthy = ["docker", "exec", container, *check]
        assert subprocess.run(healthy).returncode == 0
        docker(*stop, container, *(["python", "-c", STOP] if option else []))
        assert subprocess.run(healthy, capture_output=True).returncode == 1


STOP = """
import os, signal
for name in filter(str.isdigit, os.listdir("/proc")):
    if name not in ("1", str(os.getpid())) and "main.py" in open(f"/proc/{name}/cmdline").read():
        os.kill(int(name), signal.SIGSTOP)
"""


# ------------------------------------------------------------------------------------- builds


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(docker: Docker, tmp_path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield the address of an index with TLS, its certificate, its package, and its IP address."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    host = docker("network", "inspect", "--format", form, "bridge") or "172.17.0.1"
    make_certificate(tmp_path / "both.pem", f"DNS:{INDEX}")
    folder = tmp_path / "index" / "simple" / "nothing"
    folder.mkdir(parents=True)
    wheel = folder / "nothing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nothing.py", "")
        info = "nothing-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = functools.partial(Index, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(tmp_path / "both.pem")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        text = (tmp_path / "both.pem").read_text()
        certificate = text[text.index("-----BEGIN CERTIFICATE") :]
        requirement = f"nothing==1.0 --hash=sha256:{digest}"
        url = f"https://{INDEX}:{server.server_port}/simple"
        yield url, certificate, requirement, f"{INDEX}:{host}"
        server.shutdown()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Return a folder with the simulator's Dockerfile, which installs one package."""
    folder = tmp_path / "context"
    folder.mkdir()
    for name in ("Dockerfile", "main.py"):
        (folder / name).write_bytes((ROOT / "data_ingestion_simulator" / name).read_bytes())
    return folder


def test_a_mirror_of_the_base_image(docker: Docker, context: Path) -> None:
    """REGISTRY names it; each Dockerfile has the same lines for it."""
    (context / "requirements.txt").write_text("")
    mirror = f"{OWN}-mirror/"
    base = re.findall(r"^FROM \$\{REGISTRY}(\S+)", (context / "Dockerfile").read_text(), re.M)[0]
    base = base.replace("${PYTHON_VERSION}", "3.13")
    docker("tag", base, mirror + base)
    try:
        build = ["build", "--quiet", "--tag", OWN, str(context), "--build-arg"]
        docker(*build, f"REGISTRY={mirror}")
        with pytest.raises(AssertionError, match="nowhere"):
            docker(*build, "REGISTRY=nowhere.invalid/")
    finally:
        docker("rmi", "--force", OWN, mirror + base, check=False)


@pytest.mark.usefixtures("native_engine")
@pytest.mark.parametrize("builder", ["0", "1"], ids=["classic", "buildkit"])
def test_an_own_index_and_certificate(
    docker: Docker, context: Path, index: tuple[str, str, str, str], builder: str
) -> None:
    """An image is built from an index with a certificate that only CA_CERTIFICATE makes known."""
    url, certificate, requirement, at_host = index
    (context / "requirements.txt").write_text(requirement)

    def build(**arguments: str) -> "subprocess.CompletedProcess[str]":
        words = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
        options = ["--add-host", at_host, "--tag", OWN]
        command = ["docker", "build", *options, *words, str(context)]
        variables = os.environ | {"DOCKER_BUILDKIT": builder}
        return subprocess.run(command, env=variables, capture_output=True, text=True)

    try:
        unknown = build(PIP_INDEX_URL=url)
        known = build(PIP_INDEX_URL=url, CA_CERTIFICATE=certificate)
        assert known.returncode == 0, known.stdout + known.stderr
        found = docker("run", "--rm", OWN, "python", "-c", "import nothing; print('found')")
    finally:
        docker("rmi", "--force", OWN, check=False)

    assert unknown.returncode != 0
    assert "certificate" in (unknown.stdout + unknown.stderr).lower()
    assert found == "found"
