"""`lab.py doctor`, `stop` and `clean`: look at this machine, and remove what is left of ours."""

import os
import platform
import re
import shutil
import signal
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import formatdate, parsedate_to_datetime
from importlib.util import find_spec

from tools import machine
from tools.environments import find_uv, places, remove, source
from tools.machine import ROOT, TABLES, WINDOWS, clean_environment, cure_for, sentence
from tools.processes import say, stop_requested

# Of a process that `up` started: its id, its parent's, and a Python of this checkout.
OURS = re.compile(rf"^ *(\d+) +(\d+) +\"?{re.escape(str(ROOT))}.*? -X lab ", re.M)


def python() -> Iterator[str]:
    if sys.maxsize < 2**32 or (WINDOWS and platform.machine() == "ARM64"):
        yield "the libraries have no packages for this Python: install the x64 Python 3.13"
    needed = [*TABLES["modules"], *([] if find_uv(bring=False) else ["pip", "ensurepip"])]
    if missing := ", ".join(name for name in needed if not find_spec(name)):
        yield f"this Python lacks {missing}: {cure_for('ensurepip').partition(': ')[2]}"


def variables() -> Iterator[str]:
    values = {name.upper(): value for name, value in os.environ.items()}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        if not re.fullmatch(r"(\w+://[^\s/]+/?)?", proxy := values.get(name, "")):
            yield f"{name} must be an address such as http://proxy:3128: correct it, or unset it"
        if proxy and not re.search(r"localhost|^\*", values.get("NO_PROXY", "")):
            yield f"{name} makes curl ask the proxy for our pages: set NO_PROXY=localhost,127.0.0.1"
    if ignored := sorted(os.environ.keys() - clean_environment().keys()):
        yield f"fine (ignored: {', '.join(ignored)})"


def folder() -> Iterator[str]:
    folders = [ROOT, *(ROOT / service for service in TABLES["services"])]
    for path in [*folders, *(each / ".venv" for each in folders)]:
        if path.exists() and not os.access(path, os.W_OK):
            yield f"{path} is protected: {cure_for('Permission')}"
    if shutil.disk_usage(ROOT).free < 1e9:
        yield cure_for("No space left")


def network() -> Iterator[str]:
    if source():
        yield "fine (not needed: there is a bundle)"
    index = places().get("PIP_INDEX_URL") or os.environ.get("UV_DEFAULT_INDEX")
    url = f"{index or 'https://pypi.org/simple'}/faker/"
    trust = ssl.create_default_context(cafile=places().get("PIP_CERT"))
    with urllib.request.urlopen(url, timeout=3, context=trust) as page:
        date = parsedate_to_datetime(page.headers["Date"] or formatdate())
    if abs(date.timestamp() - time.time()) > 300:
        yield f"the clock of this machine is wrong (it is {date}): set it"


def ports() -> Iterator[str]:
    machine.refuse_taken_port(8000, "--api-port")
    machine.refuse_taken_port(8501, "--dashboard-port")
    yield "fine (8000 and 8501 are free)"


def docker() -> Iterator[str]:
    if not shutil.which("docker"):
        yield "fine (not installed; only the lessons about containers need it)"
    engine = machine.run_quietly("docker", "version", seconds=3, errors=True)
    if "Server" not in engine:
        yield cure_for(engine) or f"the Docker engine does not respond: restart it {engine[:99]}"
    tries = (("docker", "compose", "version"), ("docker-compose", "--version"))
    found = [text for each in tries if "ersion" in (text := machine.run_quietly(*each, seconds=1))]
    yield f"fine ({'; '.join(found)})" if found else cure_for("is not a docker command")


def leftovers() -> Iterator[str]:
    if found := running():
        yield f"{len(found)} processes of an `up` run: `python3 lab.py stop` ends them"
    if names := left_in_docker():
        yield f"Docker has {', '.join(names)}: `python3 lab.py clean` removes them"


def doctor() -> int:
    """Print `fine`, or a sentence that says what helps, for each part; 1 if one is not fine."""
    parts = (python, variables, folder, network, ports, docker, leftovers)
    findings = dict.fromkeys(parts, "gave no result within 5 s: restart what it depends on")

    def examine(part: Callable[[], Iterator[str]]) -> None:
        try:
            findings[part] = " ".join(next(part(), "fine").split())
        except Exception as error:  # whatever is broken: the other parts are still examined
            findings[part] = sentence(error)

    threads = [threading.Thread(target=examine, args=(part,), daemon=True) for part in parts]
    deadline = time.monotonic() + 5
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    for part in parts:
        say(f"{part.__name__:<10} {findings[part]}")
    return int(not all(finding.startswith("fine") for finding in findings.values()))


def running() -> dict[int, int]:
    """Return the services that an `up` of this checkout started, and what runs this `up`, or 0."""
    rows = machine.run_quietly(*TABLES["powershell" if WINDOWS else "ps"])
    launchers = set(re.findall(r"^ *(\d+) .*\blab\.py\b", rows, re.M))
    return {int(pid): int(up) if up in launchers else 0 for pid, up in OURS.findall(rows)}


def left_in_docker() -> list[str]:
    """Return the names of what the documents have left in Docker."""
    names = [name.format(ROOT.name.lower()) for name in TABLES["left"]]
    found = machine.run_quietly("docker", "inspect", "--format={{.Name}}", *names, seconds=3)
    return found.replace("/", "").split()


def stop() -> int:
    """End each `up` of this checkout, and the services of one that was killed."""
    found = running()
    for name in ("SIGTERM", "SIGKILL"):
        for process in {launcher or pid for pid, launcher in running().items()}:
            os.kill(process, getattr(signal, name, signal.SIGTERM))
        deadline = time.monotonic() + 10
        while running() and time.monotonic() < deadline:
            stop_requested.check(0.2)
    say(f"{len(found)} services ended" if found else "no service of this checkout runs")
    return 0


def clean(users: bool) -> int:
    """Stop everything; remove environments, caches and what is left in Docker, and say what."""
    stop()
    paths = [ROOT / folder / cache for folder in TABLES["folders"] for cache in TABLES["caches"]]
    for path in [*paths, *(ROOT.glob("users.db*") if users else ())]:
        answers = path.name == ".lab" and (path / "learn").exists()  # of a learner
        if (users or not answers) and remove(path):
            say(f"removed {path.relative_to(ROOT)}")
    for name in left_in_docker():
        for removal in ("container rm --force", "network rm", *(["volume rm"] if users else [])):
            if machine.run_quietly("docker", *removal.split(), name, seconds=30):
                say(f"removed {name} from Docker")
    return 0
