"""The edge without an engine: how it starts, by a `haproxy` that tells it; how much it may hold."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.processes import ROOT

if sys.platform == "win32":
    pytest.skip("the load balancer starts in a container, by a shell", allow_module_level=True)

IMAGE_USER = 99  # owns none of the files


@pytest.fixture
def edge() -> Iterator[Path]:
    """Yield a folder that every user may read, as it is mounted into the container."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "start.sh").write_bytes((ROOT / "deploy/edge/start.sh").read_bytes())
        (folder / "haproxy").write_text("#!/bin/sh\necho tls=$EDGE_TLS\n")
        for path in (folder, folder / "haproxy"):
            path.chmod(0o755)
        yield folder
        if (folder / "certificates").is_dir():
            (folder / "certificates").chmod(0o700)


def start(edge: Path) -> subprocess.CompletedProcess[str]:
    """Start it as the image's user, who owns none of the files, where this user may do that."""
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        user = {"user": IMAGE_USER, "group": IMAGE_USER, "extra_groups": []}
    return subprocess.run(
        ["sh", edge / "start.sh"],
        env={"PATH": f"{edge}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        **user,
    )


def certificate(edge: Path, name: str = "edge.pem") -> Path:
    """Put a file into the folder of certificates; return the folder."""
    folder = edge / "certificates"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / name).write_text("made up")
    (folder / name).chmod(0o644)
    return folder


def test_a_certificate_means_tls(edge: Path) -> None:
    """With a readable certificate the load balancer uses TLS."""
    path = certificate(edge) / "edge.pem"

    assert start(edge).stdout == f"tls=ssl crt {path} alpn h2,http/1.1\n"


def test_without_a_certificate_it_uses_no_tls(edge: Path) -> None:
    """Without the folder, or with an empty one, it uses plain HTTP."""
    without = start(edge)
    certificate(edge).joinpath("edge.pem").unlink()

    assert (without.stdout, without.returncode) == ("tls=\n", 0)
    assert (start(edge).stdout, start(edge).returncode) == ("tls=\n", 0)


OWNER_ONLY = 0o700 if os.getuid() == 0 else 0  # root starts it as another user, others as owner
MISTAKES: dict[str, Callable[[Path], object]] = {
    "a folder that only its owner can read": lambda edge: certificate(edge).chmod(
        0o700 * (os.getuid() == 0)
    ),
    "a file that only its owner can read": lambda edge: (certificate(edge) / "edge.pem").chmod(
        OWNER_ONLY
    ),
    "another name": lambda edge: certificate(edge, "server.pem"),
    "a broken link to a file": lambda edge: (certificate(edge, "x") / "edge.pem").symlink_to(
        "/nowhere/edge.pem"
    ),
    "a broken link to a folder": lambda edge: (edge / "certificates").symlink_to("/nowhere"),
    "a folder in place of the file": lambda edge: (certificate(edge, "x") / "edge.pem").mkdir(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_certificate_that_cannot_be_read_ends_the_start(edge: Path, mistake: str) -> None:
    """Then it does not fall back to plain HTTP: one sentence, and exit code 2."""
    MISTAKES[mistake](edge)
    ended = start(edge)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("deploy/edge/certificates must be ")
    assert ended.stderr.count("\n") == 1


TLS_CONNECTION_KIB = 51  # measured, with a full buffer of headers


def test_there_is_memory_for_every_connection() -> None:
    """The most connections, each with a full buffer of headers, fit into the memory limit."""
    config = (ROOT / "deploy/edge/haproxy.cfg").read_text(encoding="utf-8")
    connections = int(re.findall(r"^frontend public(?:.*\n)*?    maxconn (\d+)", config, re.M)[0])
    compose = yaml.safe_load((ROOT / "deploy/docker-compose.prod.yml").read_text(encoding="utf-8"))
    limit_mib = int(compose["services"]["edge"]["mem_limit"].removesuffix("m"))

    assert connections * TLS_CONNECTION_KIB / 1024 < 0.8 * limit_mib
