"""The figures of the dashboard: latency, memory, fast hands. `LAB_LONG` runs them in full."""

import base64
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import free_port, open_page, service_python
from dashboard import COLOURS, DESKTOP, Misbehaving, System, total, turn_to
from playwright.sync_api import Browser, Page, expect

LONG = "LAB_LONG" in os.environ
TRIES, SWITCHES, TICKS, VIEWERS = (50, 200, 10_000, 20) if LONG else (5, 20, 100, 3)
TICK_SECONDS = 0.1  # instead of two: a week of the dashboard in minutes
# Streamlit runs in this process, so the constants can be changed before it imports the page.
FAST = f"""import sys
sys.path.insert(0, "")
import api_client
api_client.TICK_SECONDS = {TICK_SECONDS}
api_client.Poller.__init__.__defaults__ = ({TICK_SECONDS},)
from streamlit.web.cli import main
sys.argv[1:1] = ["run", "app.py", "--server.port"]
main()
"""


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    yield context.new_page()
    context.close()


def fill(system: System) -> None:
    """Start an API with 60 users."""
    system.start_api()
    for user_id in range(60):
        system.create(user_id, user_id)


def test_from_a_creation_to_its_bar(system: System, page: Page) -> None:
    """The times are printed: at most 2.5 s on a machine that has nothing else to do."""
    fill(system)
    open_page(page, system.start_dashboard(system.api_url))
    expect(total(page)).to_have_text("60")
    seconds = []
    for number in range(TRIES):
        page.wait_for_timeout(number * 137 % 2_000)  # at any time of the period
        began = time.monotonic()
        system.create(1_000 + number, 30)
        expect(total(page)).to_have_text(str(61 + number))
        seconds.append(time.monotonic() - began)
    fast = sum(each <= 2.5 for each in seconds)
    print(f"creation to bar: {fast} of {TRIES} within 2.5 s,", end=" ")
    print(f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")


def test_fast_switches_with_a_slow_api(system: System, page: Page) -> None:
    """However fast a viewer changes pages, none is white, and the last one is complete."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with Misbehaving.serve() as url:
        open_page(page, system.start_dashboard(url))
        expect(total(page)).to_have_text("3")
        Misbehaving.mode = "slow"
        for number in range(SWITCHES):
            name = ("Users", "System", "Live")[number % 3]
            page.get_by_role("link", name=name, exact=True).first.click()
            page.wait_for_timeout(number * 37 % 150)
            seen = page.locator("[data-testid=stMain] h1, #outline").filter(visible=True)
            assert seen.count(), f"switch {number} to {name}: a white page"
        Misbehaving.mode = "live"
        turn_to(page, "Live", "Ages of the users")
        expect(page.locator(".title")).to_contain_text("Live, updated")
    assert errors == []


# How large a picture is, and how many colours it has, up to a few.
OPENED = """async data => {
    const image = new Image();
    image.src = "data:image/png;base64," + data;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return [image.width, image.height, (COLOURS)(canvas)];
}""".replace("COLOURS", COLOURS)


def test_a_chart_is_saved_with_its_numbers(system: System, page: Page) -> None:
    """Its toolbar saves a PNG that opens and has the bars; each chart has its numbers as CSV."""
    system.start_api()
    for user_id in range(60):
        system.create(user_id, user_id)
    open_page(page, system.start_dashboard(system.api_url))
    expect(total(page)).to_have_text("60")
    page.get_by_test_id("stVegaLiteChart").first.hover()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download as PNG").first.click()
    data = base64.b64encode(saved.value.path().read_bytes()).decode()
    width, height, colours = page.evaluate(OPENED, data)
    assert width > 800
    assert height > 200
    assert colours > 3
    turn_to(page, "System", "The system")
    for number in range(3):
        page.get_by_role("button", name="Numbers").nth(number).click()
        expect(page.get_by_role("table").first).to_be_visible()  # there are numbers
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        head = download.value.path().read_text("utf-8-sig").splitlines()[0]
        assert head == "at,value,line"
        page.keyboard.press("Escape")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in /proc")
def test_many_ticks_keep_the_memory(system: System, page: Page) -> None:
    """Neither the server nor the browser grows, after the history of 900 responses is full."""
    fill(system)
    port = free_port()
    url = f"http://localhost:{port}"
    python = service_python("frontend")
    dashboard = system.run_python("frontend", FAST, str(port), API_URL=f"{system.api_url}/users/")
    dashboard.wait_for("URL: http")
    open_page(page, url)
    expect(total(page)).to_have_text("60")
    browser = page.context.new_cdp_session(page)
    browser.send("Performance.enable")

    def memory_mb() -> tuple[float, float]:
        browser.send("HeapProfiler.collectGarbage")
        metrics = browser.send("Performance.getMetrics")["metrics"]
        heap = next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize")
        status = Path(f"/proc/{dashboard.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1e3, heap / 1e6

    def watch(ticks: int) -> None:
        stream = f"ws://localhost:{port}/_stcore/stream"
        script = Path(__file__).parents[1] / "frontend" / "tests" / "viewers.py"
        program = [python, str(script), stream, str(VIEWERS - 1)]
        subprocess.run([*program, str(ticks), str(TICK_SECONDS)], check=True)

    watch(min(1_000, TICKS))
    before = memory_mb()
    watch(TICKS)
    after = memory_mb()
    print(
        f"{TICKS} ticks, {VIEWERS} viewers: server {before[0]:.0f} to {after[0]:.0f} MB,", end=" "
    )
    print(f"heap {before[1]:.1f} to {after[1]:.1f} MB")
    if LONG:
        assert after[0] <= before[0] * 1.05
        assert after[1] <= before[1] + 10
