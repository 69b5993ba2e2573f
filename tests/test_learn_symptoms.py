"""Each fault of the console shows within ten seconds, and is gone ten seconds after its end."""

import os
import re
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest
from conftest import open_page, wait_until
from playwright.sync_api import Browser, Page, expect

if sys.platform == "win32":
    pytest.skip("these tests type at a POSIX terminal", allow_module_level=True)

from test_learn_console import Console

QUIET_SECONDS = 600 if os.environ.get("LAB_LONG") else 20
# A response is late from here on; the fault adds 400 ms.
LATE = re.compile(r"^simulator .* created .*  (4\d\d|[5-9]\d\d|\d{4,}) ms")


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    """Yield a running system with a console; each test ends its faults."""
    console = Console()
    yield console
    console.kill()


@pytest.fixture(scope="module")
def page(console: Console, browser: Browser) -> Iterator[Page]:
    """Yield the live page of the dashboard."""
    page = browser.new_page()
    open_page(page, f"http://localhost:{console.dashboard_port}")
    expect(page.get_by_text("Live, updated").first).to_be_visible()
    yield page
    page.close()


def metric(console: Console, http: httpx2.Client, pattern: str) -> int:
    """Return the sum of the API's metrics whose line matches a pattern."""
    metrics = http.get(f"{console.api_url}/metrics").text
    return sum(int(float(value)) for value in re.findall(rf"^{pattern} (\S+)$", metrics, re.M))


CONFLICTS = r'api_requests_total\{method="POST",route="/users/",status="409"\}'
CREATED = r'api_requests_total\{method="POST",route="/users/",status="201"\}'


@pytest.mark.parametrize(
    ("kind", "share", "symptom", "is_counted"),
    [
        ("lose-response", 30, "closed the connection without a response", True),
        ("reset", 30, "closed the connection in the middle of a response", True),
        ("refuse", 30, "closed the connection without a response", False),
        ("latency", 100, LATE, False),
    ],
)
def test_a_fault_of_the_simulator(
    console: Console, http: httpx2.Client, page: Page,
    kind: str, share: int, symptom: str | re.Pattern[str], is_counted: bool,
) -> None:  # fmt: skip
    """Log and dashboard say it, and the metrics count a 409 if the request arrived; then no more.

    The strip of the dashboard names the fault beside the simulator.
    """
    before, conflicts = console.count(symptom), metric(console, http, CONFLICTS)
    console.type(f"fault simulator {kind} {share}%")
    console.wait_for(symptom, times=before + 2, deadline_seconds=10)
    badge = page.get_by_text(f"{kind} {share}%")
    expect(badge).to_be_visible(timeout=10_000)
    if is_counted:
        wait_until("a 409", lambda: metric(console, http, CONFLICTS) > conflicts, 10)
    else:
        assert metric(console, http, CONFLICTS) == conflicts

    off = console.count("all faults are off")
    console.type("faults off")
    console.wait_for("all faults are off", times=off + 1, deadline_seconds=10)
    wait_until("the symptom ends", lambda: is_gone(console, http, symptom), 10)
    expect(badge).to_be_hidden(timeout=10_000)


def is_gone(console: Console, http: httpx2.Client, symptom: str | re.Pattern[str]) -> bool:
    """Return whether the symptom does not appear while ten users are created."""
    before, created = console.count(symptom), metric(console, http, CREATED)
    wait_until("ten users", lambda: metric(console, http, CREATED) > created + 10, 10)
    return console.count(symptom) == before


def test_a_hang_of_the_simulator(console: Console, http: httpx2.Client) -> None:
    """No user arrives, no error is counted, and after `faults off` users arrive again."""
    console.type("fault simulator hang 100%")
    wait_until("nothing arrives", lambda: stands_still(console, http), 10)

    console.type("faults off")
    stood = metric(console, http, CREATED)
    wait_until("users arrive", lambda: metric(console, http, CREATED) > stood, 10)


def stands_still(console: Console, http: httpx2.Client) -> bool:
    """Return whether no user was created in a second (ten are usual)."""
    before = metric(console, http, CREATED)
    time.sleep(1)
    return metric(console, http, CREATED) == before


@pytest.mark.parametrize("kind", ["lose-response", "reset", "refuse", "hang"])
def test_a_fault_of_the_dashboard(console: Console, page: Page, kind: str) -> None:
    """The page is no longer live within ten seconds; the simulator notices nothing."""
    live = page.get_by_text("Live, updated").first
    expect(live).to_be_visible(timeout=10_000)
    retries = console.count("next try in")

    console.type(f"fault dashboard {kind} 100%")
    expect(live).to_be_hidden(timeout=10_000)
    console.type("faults off")
    expect(live).to_be_visible(timeout=10_000)
    assert console.count("next try in") == retries


def test_a_slow_dashboard(console: Console, page: Page) -> None:
    """With late responses the page stays live, and its strip names the fault."""
    badge = page.get_by_text("latency 100%")
    console.type("fault dashboard latency 100%")
    expect(badge).to_be_visible(timeout=10_000)
    expect(page.get_by_text("Live, updated").first).to_be_visible()

    console.type("faults off")
    expect(badge).to_be_hidden(timeout=10_000)


def test_a_quiet_system_shows_no_symptom(console: Console, page: Page) -> None:
    """Without a touch: no warning, no 4xx, no 5xx, no badge but "Live" (ten minutes if long)."""
    live = page.get_by_text("Live, updated").first
    expect(live).to_be_visible()
    since, deadline = len(console.lines), time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        assert live.is_visible()
        assert page.get_by_role("alert").count() == 0
        time.sleep(0.5)
    loud = re.compile(r"WARN|ERROR|Traceback| [45]\d\d [\d.]+ ms|next try in|ended with", re.I)
    assert [line for line in console.lines[since:] if loud.search(line)] == []
