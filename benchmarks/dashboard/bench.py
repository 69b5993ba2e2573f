"""Measures a refresh of the dashboard beside the course's first page and first API.

    .venv/bin/python bench.py            1 k, 100 k and 1 M users; about five minutes
    .venv/bin/python bench.py --quick    without the million

Streamlit's test driver runs the pages in turn, each in a new process: this dashboard with this API,
the first version's page with the first version's API, and that page with this API.
Prints a table, writes results.json and exits with 1 if a ratio misses its bar by more than 20 %.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import resource
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from streamlit.testing.v1 import AppTest

HERE = Path(__file__).parent
API = HERE.parents[1] / "api"
PYTHON = API / ".venv" / "bin" / "python"
FRONTEND = HERE.parents[1] / "frontend"
FIRST = HERE.parent / "api" / "first.py"
PEOPLE = FIRST.with_name("people.py")
PAGES = {"ours": FRONTEND / "app.py", "baseline": HERE / "baseline.py"}
TIMES_BETTER = {1_000: 7, 100_000: 60, 1_000_000: 400}
MOST_MEMORY = 0.25  # of the first version's page, at a million users
SLACK = 0.2
VIEWERS = 20
BATCH_USERS = 10_000
TICKS = 3
TICK_SECONDS = 2
REFRESHES = 12
TIMEOUT_SECONDS = 120


class Api:
    """A running API on a free port."""

    def __init__(self, users: int, command: Sequence[str | Path], folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self._root = f"http://127.0.0.1:{port}"
        self.url = f"{self._root}/users/"
        words = [PYTHON, "-m", *command, "--host", "127.0.0.1", "--port", port]
        quiet = subprocess.DEVNULL
        environment = os.environ | {"USERS": str(users)}  # the first version starts with so many
        self._process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=quiet, stderr=quiet
        )
        give_up_at = time.monotonic() + 60
        while time.monotonic() < give_up_at:
            with contextlib.suppress(OSError), urlopen(f"{self._root}/health", timeout=2):
                return
            time.sleep(0.1)
        raise SystemExit("bench: the API does not start; has `python3 lab.py test` been run?")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def age_requests(api_url: str) -> float:
    """Return the number of requests for the age counts, from our API's metrics."""
    pattern = r'^api_requests_total\{[^}]*route="/stats/ages"[^}]*\} ([0-9.e+]+)$'
    with urlopen(urljoin(api_url, "../metrics"), timeout=10) as response:
        return sum(map(float, re.findall(pattern, response.read().decode(), re.M)))


def our_api(users: int) -> Api:
    """Return this repository's API, with the same users as the first version."""
    api = Api(users, ["uvicorn", "main:app"], API)
    all_users = runpy.run_path(str(PEOPLE))["users"](users)  # the frontend may have a people.py
    while batch := list(itertools.islice(all_users, BATCH_USERS)):
        body = json.dumps({str(i): {"name": name, "age": age} for i, name, age in batch})
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(f"{api.url}batch", body.encode(), headers, method="POST"), timeout=60):
            pass
    return api


def first_api(users: int) -> Api:
    """Return the API of the course's first version, started as its README says."""
    return Api(users, ["fastapi", "run", FIRST.name], FIRST.parent)


# ------------------------------------------------------------------------ in a new process


def opened(page: str, api_url: str) -> AppTest:
    """Return a visitor of a page, after the first run of the page."""
    os.environ["API_URL"] = api_url
    visitor = AppTest.from_file(PAGES[page], default_timeout=TIMEOUT_SECONDS)
    if page == "baseline":
        visitor.session_state["api_url"] = api_url
    return visitor.run()


def refresh(page: str, visitor: AppTest) -> float:
    """Return the seconds of a refresh, from the click or the tick to the last element."""
    if page == "baseline":
        visitor.button[0].click()
    else:
        time.sleep(TICK_SECONDS - time.monotonic() % TICK_SECONDS + 0.01)  # to a new response
    started_at = time.perf_counter()
    visitor.run()
    seconds = time.perf_counter() - started_at
    if visitor.exception:
        raise SystemExit(f"{page}: {visitor.exception[0].message}")
    return seconds


def measure_page(page: str, api_url: str) -> dict[str, float]:
    """Return the seconds of the fastest refresh, and the most memory of this process, in MB.

    The fastest, because other work on the machine can only make a refresh slower.
    """
    visitor = opened(page, api_url)
    refresh(page, visitor)  # the first one loads libraries
    seconds = []
    while len(seconds) < REFRESHES and sum(seconds) < 30:
        seconds.append(refresh(page, visitor))
    unit = 1_000_000 if sys.platform == "darwin" else 1_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"seconds": min(seconds), "peak_mb": peak}


def measure_viewers(viewers: int, api_url: str) -> dict[str, float]:
    """Let visitors watch TICKS ticks; return the requests that the API counted."""
    visitors = [opened("ours", api_url) for _ in range(viewers)]
    before = 0.0
    for tick in range(1 + TICKS):
        time.sleep(TICK_SECONDS - time.monotonic() % TICK_SECONDS + 0.01)
        for visitor in visitors:
            visitor.run()
        if tick == 0:  # opening twenty pages takes several ticks
            before = age_requests(api_url)
    return {"requests": age_requests(api_url) - before}


# --------------------------------------------------------------------------------- the run


def in_a_process(*arguments: str) -> dict[str, float]:
    """Run this file with other arguments in a new process, and return what it measured."""
    done = subprocess.run(
        [sys.executable, Path(__file__).resolve(), *arguments],
        cwd=FRONTEND,  # Streamlit's settings are there
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(arguments)} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(users: int) -> dict[str, Any]:
    """Measure the three with a number of users, one API at a time."""
    with contextlib.closing(our_api(users)) as api:
        ours = in_a_process("--page", "ours", api.url)
        page_alone = in_a_process("--page", "baseline", api.url)
    with contextlib.closing(first_api(users)) as api:
        baseline = in_a_process("--page", "baseline", api.url)
    return {
        "users": users,
        "ours": ours,
        "baseline": baseline,
        "page_alone": page_alone,
        "times_faster": baseline["seconds"] / ours["seconds"],
        "times_faster_page_alone": page_alone["seconds"] / ours["seconds"],
        "part_of_memory": ours["peak_mb"] / baseline["peak_mb"],
    }


def requests_of(viewers: int) -> int:
    """Return how many requests the viewers cost the API in TICKS ticks."""
    with contextlib.closing(our_api(1_000)) as api:
        return round(in_a_process("--viewers", str(viewers), api.url)["requests"])


def failures(rows: Sequence[dict[str, Any]], one: int, many: int) -> list[str]:
    """Return what misses its bar by more than SLACK."""
    missed = [
        f"{row['users']:,} users: {row['times_faster']:.1f} times faster, needs {bar}"
        for row in rows
        if row["times_faster"] < (bar := TIMES_BETTER[row["users"]]) * (1 - SLACK)
    ]
    for row in rows:
        if row["users"] == 1_000_000 and row["part_of_memory"] > MOST_MEMORY * (1 + SLACK):
            missed.append(f"memory: {row['part_of_memory']:.2f} of the baseline's")
    if many > one + 1:  # one more, because a period may begin between the two readings
        missed.append(f"{VIEWERS} viewers cost {many} requests, one costs {one}")
    return missed


def main() -> int:
    """Measure, print, write, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave a million users out")
    parser.add_argument("--page", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--viewers", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.page:
        print(json.dumps(measure_page(*options.page)))
        return 0
    if options.viewers:
        print(json.dumps(measure_viewers(int(options.viewers[0]), options.viewers[1])))
        return 0
    rows = []
    heads = "users", "first version", "dashboard", "times faster", "bar", "its page alone", "memory"
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for users, bar in TIMES_BETTER.items():
        if options.quick and users == max(TIMES_BETTER):
            continue
        row = compare(users)
        rows.append(row)
        ours, baseline = row["ours"], row["baseline"]
        print(
            f"| {users:,} | {baseline['seconds'] * 1000:,.0f} ms | {ours['seconds'] * 1000:.1f} ms"
            f" | {row['times_faster']:,.1f} | {bar} | {row['times_faster_page_alone']:,.1f}"
            f" | {ours['peak_mb']:.0f} of {baseline['peak_mb']:.0f} MB:"
            f" {row['part_of_memory']:.2f} |",
            flush=True,
        )
    one, many = requests_of(1), requests_of(VIEWERS)
    print(f"\nIn {TICKS} ticks, 1 viewer cost {one} requests, {VIEWERS} viewers cost {many}.")
    missed = failures(rows, one, many)
    result = {"rows": rows, "requests": {"1": one, str(VIEWERS): many}, "missed": missed}
    (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(missed) if missed else f"No bar is missed by more than {SLACK:.0%}.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
