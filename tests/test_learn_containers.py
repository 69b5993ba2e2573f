"""The missions with Docker: however a check ends, its containers and networks are removed."""

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
from conftest import Docker, wait_until

from learn.containers import IMAGE
from tools.machine import ROOT
from tools.processes import OWN_GROUP

if sys.platform == "win32":
    pytest.skip("these tests send POSIX signals", allow_module_level=True)

MISSIONS = ROOT / "learn" / "missions"


@pytest.fixture(autouse=True)
def image(docker: Docker) -> None:
    """Have the image that the missions need."""
    if not docker("image", "inspect", "--format", "{{.Id}}", IMAGE, check=False):
        docker("pull", IMAGE)


def left(docker: Docker) -> set[str]:
    """Return the containers and networks of the checks of missions."""
    named = ("--filter", "name=learn-", "--format")
    containers = docker("ps", "--all", *named, "{{.Names}}")
    return {*containers.split(), *docker("network", "ls", *named, "{{.Name}}").split()}


def check(mission: str) -> subprocess.Popen[bytes]:
    """Start a check of a mission's starter."""
    file = MISSIONS / mission / "starter.py"
    command = [sys.executable, "lab.py", "learn", "check", mission[:2], "--file", str(file)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, **OWN_GROUP)


def begun(docker: Docker, before: set[str], is_wanted: Callable[[str], object]) -> set[str]:
    """Return what a check has started, if a name in it is wanted."""
    new = left(docker) - before
    return new if any(map(is_wanted, new)) else set()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize(
    ("mission", "end"), [("15_isolation", ""), ("16_names", "_inside"), ("16_names", "-api-1")]
)
def test_a_killed_check_leaves_nothing_in_docker(
    docker: Docker, mission: str, end: str, name: str
) -> None:
    """Also while Compose starts: its network exists, and some of its containers."""
    before = left(docker)
    running = check(mission)
    try:
        started = partial(begun, docker, before, lambda found: found.endswith(end))
        wait_until("a part of the check's world exists", started, 60)
        running.send_signal(getattr(signal, name))
        running.wait(60)
        wait_until("it is removed", lambda: left(docker) <= before, 60)
    finally:
        running.kill()


def test_the_next_check_removes_what_is_left(docker: Docker) -> None:
    """The next check removes what a killed one has left. It spares the checks that run."""
    before = left(docker)
    docker("network", "create", "learn-20001_inside")
    docker("create", "--name", "learn-20001-api-1", IMAGE)
    first = check("16_names")
    try:
        wait_until("old ones are removed", lambda: not left(docker) & {"learn-20001_inside"}, 60)
        assert "learn-20001-api-1" not in left(docker)
        wait_until("it has a container", partial(begun, docker, before, lambda n: "api" in n), 60)
        assert check("15_isolation").wait(60) == 1
        assert first.wait(90) == 1
    finally:
        first.kill()
