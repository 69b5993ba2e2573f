"""The real process, started as the README says: what stops it, and what it serves."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import DEADLINE_SECONDS

FRONTEND = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "streamlit", "run", "app.py"]


def environment(api_url: str) -> dict[str, str]:
    return os.environ | {"API_URL": api_url, "PYTHONUNBUFFERED": "1"}


def run(port: int, api_url: str) -> "subprocess.CompletedProcess[str]":
    """Run a dashboard that cannot start."""
    return subprocess.run(
        [*COMMAND, f"--server.port={port}"],
        cwd=FRONTEND,
        env=environment(api_url),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_a_mistake_in_the_settings_stops_the_start() -> None:
    """Before it serves a page, the process says in one line what is wrong and exits with 2."""
    process = run(0, "http://me:secret@localhost/users/")
    assert process.returncode == 2
    assert process.stderr.startswith("API_URL must be a full address such as http://localhost")
    assert len(process.stderr.splitlines()) == 1
    assert "secret" not in process.stderr


def test_a_port_in_use_is_an_error() -> None:
    """A second dashboard does not start on another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run(taken.getsockname()[1], "http://localhost:8000/users/")
        port = taken.getsockname()[1]
    assert process.returncode == 1
    assert f"Port {port} is not available" in process.stderr


@pytest.fixture
def dashboard() -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A dashboard on a free port, which it has printed; its API is not there."""
    process = subprocess.Popen(
        [*COMMAND, "--server.port=0"],
        cwd=FRONTEND,
        env=environment("http://127.0.0.1:9/users/"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = None
    for line in process.stdout:
        if found := re.search(r"URL: http://localhost:(\d+)", line):
            port = int(found[1])
            break
    assert port, process.communicate(timeout=DEADLINE_SECONDS)
    yield process, port
    process.kill()
    process.communicate(timeout=DEADLINE_SECONDS)


def test_it_serves_this_machine_and_stops_at_sigterm(
    dashboard: tuple["subprocess.Popen[str]", int],
) -> None:
    """It responds on localhost, with or without an API, on no other address, and ends at once."""
    process, port = dashboard
    with urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=DEADLINE_SECONDS) as responder:
        assert responder.status == 200
    if sys.platform == "linux":  # the only one where all of 127.0.0.0/8 is this machine
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=DEADLINE_SECONDS)
    process.terminate()
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    assert "Traceback" not in stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)
