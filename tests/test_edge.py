"""The edge without an engine: how it starts, by a `haproxy` that tells it; how much it may hold."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tools.processes import ROOT, WINDOWS

pytestmark = pytest.mark.skipif(WINDOWS, reason="the edge starts in a container, by a shell")

SOMEBODY = 99  # the image's user, and not whom the files belong to


@pytest.fixture
def edge() -> Iterator[Path]:
    """Yield a folder as it is mounted into the edge, which anybody may read."""
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
    """Start the edge as somebody who owns none of its files, where this user may become another."""
    who = {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": []} if os.getuid() == 0 else {}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        ["sh", edge / "start.sh"],
        env={"PATH": f"{edge}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        **who,
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
    """With a certificate that can be read, the edge speaks TLS."""
    path = certificate(edge) / "edge.pem"

    assert start(edge).stdout == f"tls=ssl crt {path} alpn h2,http/1.1\n"


def test_no_certificate_means_none_was_meant(edge: Path) -> None:
    """Without the folder, or with an empty one, it does not."""
    without = start(edge)
    certificate(edge).joinpath("edge.pem").unlink()

    assert (without.stdout, without.returncode) == ("tls=\n", 0)
    assert (start(edge).stdout, start(edge).returncode) == ("tls=\n", 0)


MISTAKES: dict[str, Callable[[Path], object]] = {
    "a folder of its owner's": lambda edge: certificate(edge).chmod(0o700 * (os.getuid() == 0)),
    "a file of its owner's": lambda edge: (certificate(edge) / "edge.pem").chmod(
        0o600 * (os.getuid() == 0)
    ),
    "another name": lambda edge: certificate(edge, "server.pem"),
    "a link to nowhere": lambda edge: (certificate(edge, "x") / "edge.pem").symlink_to(
        "/nowhere/edge.pem"
    ),
    "a folder that leads nowhere": lambda edge: (edge / "certificates").symlink_to("/nowhere"),
    "a folder for a file": lambda edge: (certificate(edge, "x") / "edge.pem").mkdir(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_certificate_that_cannot_be_read_ends_the_start(edge: Path, mistake: str) -> None:
    """What was meant for TLS is never sent in plain: one sentence, and exit code 2."""
    MISTAKES[mistake](edge)
    ended = start(edge)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("deploy/edge/certificates must be ")
    assert ended.stderr.count("\n") == 1


TLS_CONNECTION_KIB = 51  # measured: with a buffer that is full of headers


def test_there_is_memory_for_every_connection() -> None:
    """As many connections as the edge takes, each with headers under way, fit into its memory."""
    config = (ROOT / "deploy/edge/haproxy.cfg").read_text(encoding="utf-8")
    connections = int(re.findall(r"^frontend public(?:.*\n)*?    maxconn (\d+)", config, re.M)[0])
    compose = yaml.safe_load((ROOT / "deploy/docker-compose.prod.yml").read_text(encoding="utf-8"))
    limit_mib = int(compose["services"]["edge"]["mem_limit"].removesuffix("m"))

    assert connections * TLS_CONNECTION_KIB / 1024 < 0.8 * limit_mib
