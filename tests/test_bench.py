"""`lab.py bench`: how it judges, what it refuses, and a quick run from end to end."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Terminal

from benchmarks import report
from benchmarks.calls import compared
from benchmarks.contenders import PROBES, check
from benchmarks.load import Run, judged
from benchmarks.ratios import Result, Row, calls_in_turn, exit_code, in_turn, medians, times
from benchmarks.servers import Contender, serving
from tools.processes import ROOT, LabError

LINUX = sys.platform == "linux"


@pytest.mark.parametrize(
    ("value", "sense", "verdict"),
    [
        (5.0, "at least", "met"),
        (7.0, "at least", "met"),
        (4.1, "at least", "near"),
        (3.9, "at least", "missed"),
        (5.0, "at most", "met"),
        (0.0, "at most", "met"),
        (6.2, "at most", "near"),
        (6.3, "at most", "missed"),
    ],
)
def test_a_bar_is_missed_beyond_a_fifth(value: float, sense: str, verdict: str) -> None:
    """A figure up to 20 % beyond its bar of 5 is `near`; one that is further off is `missed`."""
    row = Row("made up", value, 5.0, sense)  # type: ignore[arg-type]

    assert row.verdict == verdict
    assert exit_code([Row("other", 9.0, 1.0), row]) == (1 if verdict == "missed" else 0)


def test_a_figure_without_a_bar_is_not_judged() -> None:
    """It is reported only: it has no verdict and does not change the exit code."""
    assert Row("made up", 0.001).verdict == ""
    assert exit_code([Row("made up", 0.001)]) == 0


def test_contenders_take_turns_in_both_orders() -> None:
    """Every second round runs in reverse, so no contender always runs after the same other one."""
    order: list[str] = []

    def runs(name: str, figures: list[float]) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return figures.pop(0)

        return run

    measured = in_turn(3, {"a": runs("a", [1.0, 9.0, 2.0]), "b": runs("b", [4.0, 4.0, 1.0])})

    assert "".join(order) == "abbaab"
    assert medians(measured) == {"a": 2.0, "b": 4.0}
    order.clear()
    calls = {call: {"a": runs(f"{call}a", [1.0, 2.0])} for call in ("get ", "put ")}
    assert calls_in_turn(2, calls) == {"get ": {"a": [1.0, 2.0]}, "put ": {"a": [1.0, 2.0]}}
    assert "".join(order) == "get aput aput aget a"


def test_the_ratios_of_made_up_runs() -> None:
    """Ratios use medians of CPU per request; a share of bare ASGI is its cost divided by ours."""
    cost = {"ours": (20, 50, 30), "first version": (150, 10, 105), "bare ASGI": (15, 15, 15)}
    runs = {name: [Run(1000, us, 1e6 / us, 1.0) for us in each] for name, each in cost.items()}
    result = compared({"get": runs}, {"get": runs}, rounds=3)
    ratios = {row.what: (row.value, row.bar, row.verdict) for row in result.rows}

    assert ratios == {
        "get: first version": (3.5, 4.0, "near"),
        "get: share of bare ASGI": (0.5, 0.5, "met"),
        "get, moderate load: first version": (3.5, None, ""),
        "get, moderate load: share of bare ASGI": (0.5, None, ""),
    }
    assert result.tables[0].lines == [["ours", "30"], ["first version", "105"], ["bare ASGI", "15"]]


def test_a_cost_of_zero_gives_no_ratio() -> None:
    """A run that is too short for the processor clock is an error, and not infinitely fast."""
    with pytest.raises(ValueError, match="too short"):
        times(10.0, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"refused": 1}, {"broken": 2}, {"answered": 0}], ids=lambda wrong: next(iter(wrong))
)
def test_a_run_with_an_error_response_is_invalid(wrong: dict[str, int]) -> None:
    """One error among thousands of responses makes a run invalid; the message has the number."""
    good = {"answered": 5000, "refused": 0, "broken": 0, "seconds": 2.0, "p99_ms": 3.0}
    run = judged("ours", "get", good, cpu_seconds=0.5)

    assert (run.cpu_us, run.per_second) == (100.0, 2500.0)
    with pytest.raises(LabError, match="the run is invalid: ours, get"):
        judged("ours", "get", good | wrong, cpu_seconds=0.5)


RESPONDER = """
import http.server, json, sys
from urllib.parse import parse_qs, urlsplit

responses = json.load(open(sys.argv[2]))

class Handler(http.server.BaseHTTPRequestHandler):
    def respond(self):
        status, body = (200, {"status": "healthy"})
        if self.path != "/health":
            method, path, status, body = responses.pop(0)
        data = json.dumps(body).encode() if body != "" else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_GET = do_POST = do_PUT = do_DELETE = respond
    def log_message(self, *_): pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.skipif(not LINUX, reason="the benchmark needs Linux")
def test_a_contender_with_a_different_response_is_refused(tmp_path: Path) -> None:
    """One server gives every response correctly; the other one gives one wrong age."""
    (tmp_path / "server.py").write_text(RESPONDER)
    right = [probe for probe in PROBES if probe[1] != "/health"]
    wrong = list(right)
    number = next(n for n, probe in enumerate(right) if probe[:2] == ("GET", "/users/7"))
    wrong[number] = ("GET", "/users/7", 200, {**right[number][3], "age": 37})
    contenders = []
    for name, responses in (("right", right), ("wrong", wrong)):
        (tmp_path / f"{name}.json").write_text(json.dumps(responses))
        command = (sys.executable, "server.py", "{port}", f"{name}.json")
        contenders.append(Contender(name, command, tmp_path))

    with serving(contenders) as servers:
        check(servers["right"])
        with pytest.raises(LabError, match="wrong gives another response: GET /users/7 must"):
            check(servers["wrong"])
    assert all(server.process.poll() is not None for server in servers.values())


@pytest.mark.skipif(not LINUX, reason="the benchmark needs Linux")
def test_a_contender_that_does_not_start_is_named_with_its_last_output(tmp_path: Path) -> None:
    """The error message has the name and the output of a server that ends at once."""
    command = (sys.executable, "-c", "raise SystemExit('no such port')")
    broken = Contender("broken", command, tmp_path)

    with pytest.raises(LabError, match="broken does not start:\nno such port"), serving([broken]):
        pass


def test_an_unknown_part_is_refused(terminal: Callable[..., Terminal]) -> None:
    """The message, one sentence, lists the parts."""
    lab = terminal(sys.executable, "lab.py", "bench", "cals")

    assert lab.process.wait(20) == 2
    lab.wait_for("bench: cals is not one of its parts: calls, listing, stores")


@pytest.mark.skipif(not LINUX, reason="elsewhere it says that it needs Linux")
def test_without_wrk_it_says_what_is_missing(terminal: Callable[..., Terminal]) -> None:
    """One sentence says what to install, and the exit code is 2."""
    lab = terminal(sys.executable, "lab.py", "bench", "calls", PATH="/nowhere")

    assert lab.process.wait(20) == 2
    lab.wait_for("bench: needs wrk, which makes the load (apt-get install wrk)")
    assert len(lab.lines) == 1


def test_parts_measured_at_different_times_share_a_page(tmp_path: Path) -> None:
    """A part replaces its own section of RESULTS.md and leaves the others as they are."""
    report.write(tmp_path, "calls", Result("so", [Row("one", 4.0, 5.0)]), quick=True)
    report.write(tmp_path, "start", Result("thus", [Row("an earlier row", 1.0, 5.0)]), quick=False)
    report.write(tmp_path, "start", Result("thus", [Row("three", 6.0, 5.0)]), quick=False)
    report.page(tmp_path, ["calls", "start", "never run"])
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")

    assert "| one | 4 | at least 5 | within the slack |" in text
    assert "| three | 6 | at least 5 | met |" in text
    assert "an earlier row" not in text
    assert "bench calls --quick" in text
    assert "bench start`" in text


@pytest.mark.skipif(not LINUX, reason="the benchmark needs Linux")
@pytest.mark.skipif(not shutil.which("wrk"), reason="there is no wrk on this machine")
def test_a_quick_run_from_end_to_end(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """All contenders start, agree and are measured; it writes table, JSON and page."""
    command = ["bench", "calls", "--quick", "--output", str(tmp_path)]
    lab = terminal(sys.executable, "lab.py", *command)
    code = lab.process.wait(600)
    lab.wait_for("written: ", deadline_seconds=5)
    found = json.loads((tmp_path / "results" / "calls.json").read_text(encoding="utf-8"))
    names = set(found["figures"]["cpu_us"]["get"])

    assert code == (1 if any(row["verdict"] == "missed" for row in found["rows"]) else 0)
    assert {"ours", "first version", "stock FastAPI", "bare ASGI", "Litestar", "Flask"} <= names
    assert all(us > 0 for by_name in found["figures"]["cpu_us"].values() for us in by_name.values())
    assert lab.count("get: share of bare ASGI") == 1
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "bench calls --quick" in page
    assert str(ROOT) not in page
