"""Each state of the system, photographed in light and dark at four sizes, and nothing is cut.

The pictures are in `.lab/pictures/states/`, and all of them together on `sheet-*.png`. Without
`LAB_LONG` only the largest size is photographed.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from conftest import Terminal, open_page
from dashboard import (
    DESKTOP,
    LAPTOP,
    PICTURES,
    TABLET,
    ZOOMED,
    Misbehaving,
    System,
    total,
)
from playwright.sync_api import Browser, Page, ViewportSize, expect

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")
# Windows has neither: these tests need POSIX signals.
STOP, CONTINUE = (getattr(signal, name, signal.SIGTERM) for name in ("SIGSTOP", "SIGCONT"))
SIZES = (DESKTOP, LAPTOP, TABLET, ZOOMED) if os.environ.get("LAB_LONG") else (DESKTOP,)
# Texts of ours that are wider than their box, or that leave the window.
CUT = """() => [...document.querySelectorAll(
    ".title *, .headline *, .cards *, .badge *, [data-testid=stMain] button p")].filter(each => {
    const box = each.getBoundingClientRect();
    return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1
        || (each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display === "block"));
}).map(each => each.outerHTML.slice(0, 120))"""
OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll(".headline p, .headline li, .cards li")]
        .map(each => each.getBoundingClientRect());
    return boxes.some((a, n) => boxes.slice(n + 1).some(b => a.left < b.right - 1
        && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1));
}"""


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP)
    yield context.new_page()
    context.close()


def photograph(page: Page, name: str, *schemes: Scheme) -> None:
    """Take the pictures of a state, and fail if something is cut, overlaps or did not load."""
    if page.locator("#sentence").count():  # the machine's network changed while a script loaded
        page.reload()
        expect(page.get_by_test_id("stMain").get_by_role("heading").first).to_be_visible()
    for scheme in schemes or SCHEMES:
        if not schemes:
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(4_500)  # until the server has coloured the charts
        for size in SIZES:
            page.set_viewport_size(size)
            page.wait_for_timeout(300)
            path = PICTURES / "states" / f"{scheme}-{size['width']}-{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=path)
            assert not page.locator("#sentence").count(), (name, size)
            assert page.evaluate(CUT) == [], (name, size)
            assert not page.evaluate(OVERLAPS), (name, size)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= size["width"]
    page.set_viewport_size(DESKTOP)


@contextlib.contextmanager
def stopped(dashboard: Terminal) -> Iterator[None]:
    """Stop a process for a while."""
    dashboard.process.send_signal(STOP)
    try:
        yield
    finally:
        dashboard.process.send_signal(CONTINUE)


def sheet(page: Page, size: ViewportSize) -> None:
    """Put all pictures of a size on one."""
    pictures = sorted((PICTURES / "states").glob(f"*-{size['width']}-*.png"))
    images = "".join(f"<figure><img src='{each.name}'>{each.stem}</figure>" for each in pictures)
    style = (
        "<style>figure {display: inline-block; margin: 4px; width: 460px; font: 14px sans-serif}"
    )
    html = Path(PICTURES / "states" / "sheet.html")
    html.write_text(f"{style} img {{width: 460px}}</style>{images}", encoding="utf-8")
    page.set_viewport_size({"width": 1900, "height": 1000})
    page.goto(html.as_uri())
    page.screenshot(path=PICTURES / "states" / f"sheet-{size['width']}.png", full_page=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process for a while")
def test_each_state(system: System, page: Page) -> None:
    """Empty, live, paused, sick, down, refused, hung, stale, and the dashboard itself stopped."""
    for old in (PICTURES / "states").glob("*.png"):
        old.unlink()
    with Misbehaving.serve() as broken:
        api = system.start_api()
        url = system.start_dashboard(system.api_url)
        open_page(page, url)
        expect(page.get_by_text("No users yet")).to_be_visible()
        photograph(page, "empty")
        seeded = {"API_BASE_URL": system.api_url, "SIMULATION_COUNT": "1200"}
        system.run("data_ingestion_simulator", "main", **seeded, SIMULATION_SEED="7")
        expect(total(page)).to_have_text("1,200")
        system.run(
            "data_ingestion_simulator", "main", API_BASE_URL=system.api_url, SIMULATION_RATE="3"
        )
        page.wait_for_timeout(20_000)
        photograph(page, "live")
        for name in ("Users", "System"):
            page.get_by_role("link", name=name, exact=True).first.click()
            if name == "Users":
                expect(page.get_by_test_id("data-grid-canvas")).to_be_visible()
            photograph(page, name.lower())
        page.get_by_role("link", name="Live", exact=True).first.click()
        pause = page.get_by_role("radio", name="Pause")
        pause.click()
        expect(page.get_by_text("Paused, updated")).to_be_visible()
        photograph(page, "paused")
        page.get_by_role("radio", name="2 s", exact=True).click()
        expect(page.get_by_text("Live, updated")).to_be_visible()
        api.process.send_signal(STOP)
        expect(page.locator(".title")).to_contain_text("API down")
        photograph(page, "hung")
        api.process.send_signal(CONTINUE)
        expect(page.locator(".title")).to_contain_text("Live, updated")
        expect(page.locator("[aria-label=Services]")).to_contain_text("Sick")
        photograph(page, "sick")
        api.stop()
        expect(page.locator(".title")).to_contain_text("API down")
        photograph(page, "down")
        for scheme in SCHEMES:  # a stopped dashboard does not colour its charts again
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(4_500)
            with stopped(system.opened[1]):
                expect(page.locator(".title")).to_contain_text("No news for", timeout=15_000)
                photograph(page, "dashboard-stopped", scheme)
        Misbehaving.mode = "refuses"
        url = system.start_dashboard(broken)
        open_page(page, url)
        expect(page.get_by_text("API refuses").first).to_be_visible()
        page.locator("summary").click()
        photograph(page, "refused")
        for scheme in SCHEMES:
            Misbehaving.mode = "live"
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(4_500)
            expect(page.locator(".title")).to_contain_text("Live, updated")
            page.goto("about:blank")  # no viewer for a while
            Misbehaving.mode = "slow"
            page.wait_for_timeout(6_500)
            open_page(page, url)
            expect(page.get_by_text("Stale, last response").first).to_be_visible()
            with stopped(system.opened[-1]):  # it would be down in some seconds
                photograph(page, "stale", scheme)
            open_page(page, url)
    for size in SIZES:
        sheet(page, size)
