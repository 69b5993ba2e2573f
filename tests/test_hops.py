"""Few hops: which of our files one request, one tick and one simulated user pass.

docs/architecture.md lists them in its section "Hops". Here they are recorded in served processes.
"""

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from conftest import Terminal, free_port, open_page, service_python, wait_until
from playwright.sync_api import Browser, expect

from tools.processes import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")

Start = Callable[..., Terminal]
START, WRITE = (getattr(signal, name, signal.SIGTERM) for name in ("SIGUSR1", "SIGUSR2"))


class Traced:
    """A service that is run by traced.py."""

    def __init__(self, start: Start, output: Path, service: str, *command: str, **variables: str):
        self._output = output
        program = str(ROOT / "tests" / "traced.py")
        python = service_python(service)
        self.terminal = start(python, program, str(output), *command, folder=service, **variables)

    def record(self, run: Callable[[], None]) -> set[str]:
        """Return the names of the service's files that ran during `run`."""
        self.terminal.process.send_signal(START)
        run()
        self.terminal.process.send_signal(WRITE)
        wait_until("the recorded files", self._output.exists)
        return set(self._output.read_text().split())


def listed(what: str) -> list[str]:
    """Return the files that docs/architecture.md lists for a kind of hop."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## Hops\n")[1].split("\n## ")[0]
    [row] = [line for line in section.splitlines() if line.startswith(f"| {what} |")]
    return re.findall(r"`([a-z_]+\.py)`", row)


@pytest.fixture
def api_url(terminal: Start) -> str:
    """Return the address of an API with its store in memory."""
    port = free_port()
    terminal(service_python("api"), "-m", "uvicorn", "main:app", "--port", str(port), folder="api")
    url = f"http://127.0.0.1:{port}"
    wait_until("the API", lambda: responds(f"{url}/health"))
    return url


def responds(url: str) -> bool:
    """Return whether a GET gets a 200."""
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def test_a_request_passes_five_files(terminal: Start, http: httpx2.Client, tmp_path: Path) -> None:
    """POST /users/ in memory mode, from the socket to the store and back."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/users/?name=Alice&age=30&user_id="
    command = ("uvicorn", "main:app", "--port", str(port))
    api = Traced(terminal, tmp_path / "files", "api", *command)
    wait_until("the API", lambda: responds(f"http://127.0.0.1:{port}/health"))
    http.post(url + "1")

    def create() -> None:
        # Several: the last hop of a request may come after its response, and after the recording.
        for user_id in range(2, 6):
            assert http.post(f"{url}{user_id}").status_code == 201

    ran = api.record(create)

    assert ran == set(listed("`POST /users/` in memory"))
    assert len(ran) <= 5


def test_a_simulated_user_passes_six_files(terminal: Start, api_url: str, tmp_path: Path) -> None:
    """A user of the default mode, from the generator to its line in the log."""
    variables = {"API_BASE_URL": api_url, "SIMULATION_INTERVAL": "0.2"}
    simulator = Traced(
        terminal, tmp_path / "files", "data_ingestion_simulator", "main.py", **variables
    )
    simulator.terminal.wait_for("created", times=2)
    before = simulator.terminal.count("created")

    ran = simulator.record(lambda: simulator.terminal.wait_for("created", times=before + 5))

    assert ran == set(listed("A simulated user"))
    assert len(ran) <= 6


def test_a_tick_passes_seven_files(
    terminal: Start, http: httpx2.Client, api_url: str, browser: Browser, tmp_path: Path
) -> None:
    """The live page redraws itself with a new response."""
    port = free_port()
    command = ("streamlit", "run", "app.py", "--server.port", str(port))
    dashboard = Traced(
        terminal, tmp_path / "files", "frontend", *command, API_URL=f"{api_url}/users/"
    )
    for user_id in range(20):
        http.post(f"{api_url}/users/?user_id={user_id}&name=Alice&age={user_id}")
    wait_until("the dashboard", lambda: responds(f"http://127.0.0.1:{port}/_stcore/health"))
    page = browser.new_page()
    open_page(page, f"http://127.0.0.1:{port}")
    page.get_by_text("20").first.wait_for()
    expect(page.locator("canvas")).to_have_count(2)  # the page has loaded all that it needs

    def tick() -> None:
        http.post(f"{api_url}/users/?user_id=20&name=Alice&age=20")
        page.get_by_text("21").first.wait_for()

    ran = dashboard.record(tick)
    page.close()

    assert ran == set(listed("A tick of the dashboard"))
    assert len(ran) <= 7
