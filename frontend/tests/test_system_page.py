"""The system page: what is said of the services and their work, and by how many requests."""

import re
import time

import pytest
from conftest import (
    Api,
    Clock,
    badge,
    badges,
    data,
    errors,
    headed,
    html_of,
    silence,
    strip,
    text,
    texts,
    turn_to,
    until,
)  # fmt: skip
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

METRICS = """
# HELP api_requests_total Requests answered.
api_requests_total{{method="GET",route="/health",status="200"}} 900
api_requests_total{{method="POST",route="/users/",status="201"}} {good}
api_requests_total{{method="POST",route="/users/",status="503"}} {failed}
api_request_duration_seconds_bucket{{le="0.001",method="POST",route="/users/"}} {fast}
api_request_duration_seconds_bucket{{le="0.01",method="POST",route="/users/"}} {total}
api_request_duration_seconds_bucket{{le="+Inf",method="POST",route="/users/"}} {total}
api_store_queue_ratio{{queue="write"}} 0.25
api_store_commit_seconds_sum 3
api_store_commit_seconds_count 1000
api_build_info{{version="9.8.7"}} 1
api_process_start_time_seconds {started}
api_simulator_users{{simulator="sim-1",outcome="created"}} 1234
api_simulator_users{{simulator="sim-1",outcome="given up"}} 5
api_simulator_users_per_second{{simulator="sim-1"}} 4.2
api_simulator_seen_timestamp_seconds{{simulator="sim-1"}} {seen}
api_simulator_users{{simulator="<b>gone</b>",outcome="created"}} 7
api_simulator_seen_timestamp_seconds{{simulator="<b>gone</b>"}} 1
a line that is no sample {{
api_nonsense one
"""


def healthy(api: Api) -> None:
    """Respond as an API does that is alive and ready."""
    api.counts({30: 1})
    api.responders["/health"] = headed(b'{"status": "healthy"}', 200, {"X-Replica": "api-1"})
    api.responders["/ready"] = data({"status": "ready", "store": "sqlite", "durable": True})


def measured(api: Api, good: int, failed: int, fast: int = 0) -> None:
    """Show metrics with so many requests."""
    now = time.time()
    started = now // 10_000 * 10_000
    values = {"good": good, "failed": failed, "fast": fast, "total": good + failed}
    filled = METRICS.format(**values, started=started, seen=now)
    api.responders["/metrics"] = text(filled, "text/plain")


def system(page: AppTest) -> AppTest:
    return turn_to(page.run(), "system")


def test_all_is_well(api: Api, page: AppTest) -> None:
    """Alive, ready, store, durable and replica are those of the API's responses."""
    healthy(api)
    system(page)
    assert not page.exception
    until(lambda: "green: Alive and ready" in badges(page.run()))
    for service in ("Simulator", "User Management API", "Store", "Dashboard"):
        assert f"<h2>{service}</h2>" in html_of(page)
    assert {
        "Store: sqlite",
        "Users survive a restart",
        "Replica: api-1",
    } <= set(texts(page))
    assert any(re.fullmatch(r"Latency of /health: [\d.]+ ms", line) for line in texts(page))
    assert not errors(page)
    assert "Live, updated" in badge(page)
    assert "The API shows no metrics at /metrics" in " ".join(texts(page))


def test_alive_and_not_ready(api: Api, page: AppTest) -> None:
    """An API that is alive but not ready is not shown as down."""
    healthy(api)
    api.responders["/ready"] = data({"detail": "The process is stopping"}, status=503)
    system(page)
    until(lambda: "orange: Alive, not ready" in badges(page.run()))
    assert "The API's message: The process is stopping" in texts(page)
    assert "Live" not in badge(page)


def test_a_restart_is_no_deletion(api: Api, page: AppTest) -> None:
    """Users that a store in memory lost at its restart are not in the net change."""
    healthy(api)
    api.counts({30: 1000})
    system(page)
    assert "gray: unknown" in badges(page)
    until(lambda: "gray: no growth seen" in badges(page.run()))
    api.counts({30: 2})
    asked = len(api.paths)
    until(lambda: not page.run().exception and len(api.paths) > asked + 4)
    assert "gray: no growth seen" in badges(page)
    api.counts({30: 5})
    until(lambda: "Users arrive" in texts(page.run()))
    assert any(re.fullmatch(r"green: \+\d+/min", each) for each in badges(page))


def test_what_is_old_is_not_shown_as_of_now(api: Api, page: AppTest, clock: Clock) -> None:
    """After hours without a viewer, only the dashboard itself is green while the API hangs."""
    healthy(api)
    system(page)
    api.counts({30: 5})
    until(lambda: "Users arrive" in texts(page.run()) and "green: Alive and ready" in badges(page))
    api.responders["/health"] = api.responders["/ready"] = api.responders["/stats/ages"] = silence
    clock.pass_by(7_200)
    page.run()
    assert "Stale, last response 2 h ago" in badge(page)
    assert [each for each in badges(page) if "green" in each] == ["green: Running"]
    assert "gray: Unknown" in badges(page)


def test_down(api: Api, page: AppTest) -> None:
    """When the API is down the picture stays, says so once, and nothing of old is shown as new."""
    healthy(api)
    system(page)
    api.stop()
    until(lambda: " ".join(badges(page.run())).count("API down") >= 2)
    until(lambda: "Replica: unknown" in texts(page.run()))
    assert len(errors(page)) == 1
    assert {"gray: Unknown"} < set(badges(page))
    assert "Store: unknown" in texts(page)


def test_an_api_with_less(api: Api, page: AppTest) -> None:
    """What an API does not say is unknown, not a mistake."""
    healthy(api)
    api.responders["/health"] = data({})
    api.responders["/ready"] = data({})
    system(page)
    until(lambda: "green: Alive and ready" in badges(page.run()))
    assert {
        "Store: unknown",
        "Durable: unknown",
        "Replica: unknown",
    } <= set(texts(page))


def test_simulators_and_store(api: Api, page: AppTest) -> None:
    """Each simulator has a card, also one that is silent now; names are text and never HTML."""
    healthy(api)
    measured(api, good=100, failed=0)
    system(page)
    until(lambda: "green: Sends users" in badges(page.run()))
    assert {
        "1,234 created, 5 given up",
        "4.2 users per second",
        "7 created, 0 given up",
        "0.0 users per second",
        "Queue of write: 25% full",
        "A commit takes 3.0 ms",
    } <= set(texts(page))
    assert any(re.fullmatch(r"Version 9.8.7, up \d+ min", line) for line in texts(page))
    assert "Simulator &lt;b&gt;gone&lt;/b&gt;" in html_of(page)
    assert strip(page)["Simulator"] == "green: 252/min"


def test_sick(api: Api, page: AppTest, clock: Clock) -> None:
    """Between up and down there is sick, with the share of the calls that fail."""
    healthy(api)
    measured(api, good=1_000, failed=3)
    system(page)
    until(lambda: "green: Alive and ready" in badges(page.run()))
    measured(api, good=1_070, failed=33)
    until(lambda: "orange: Sick: 30% of calls failed" in badges(page.run()))
    assert badge(page).startswith("orange: Sick")
    assert strip(page.run())["API"] == "orange: Sick: 30%"
    clock.pass_by(90)
    until(lambda: "green: Alive and ready" in badges(page.run()))


def test_an_api_that_fails_now_and_then_is_sick(api: Api, page: AppTest, clock: Clock) -> None:
    """The dashboard's own calls count, too: one that fails is not a dead API."""
    healthy(api)
    system(page)
    until(lambda: "green: Alive and ready" in badges(page.run()))
    api.responders["/stats/ages"] = data({}, status=500)
    clock.pass_by(2)
    until(lambda: "API error" in " ".join(badges(page.run())))
    healthy(api)
    until(lambda: any("Sick" in each for each in badges(page.run())))


def test_the_work_of_the_api(api: Api, page: AppTest) -> None:
    """Requests, failures and durations are drawn from two readings of the metrics."""
    healthy(api)
    measured(api, good=1_000, failed=0, fast=1_000)
    system(page)
    until(lambda: len(page.run().get("vega_lite_chart")) == 3)
    measured(api, good=1_090, failed=10, fast=1_060)
    until(lambda: max(points(page.run(), 0).get("", [0])) > 0)
    drawn = [points(page, chart) for chart in range(3)]
    assert max(drawn[1][""]) == 10
    assert max(drawn[2]["p50"]) <= 1 < max(drawn[2]["p95"]) <= 10


def points(page: AppTest, chart: int) -> dict[str, list[float]]:
    """Return the values of each line of a chart."""
    (dataset,) = page.get("vega_lite_chart")[chart].proto.datasets
    rows = convert_arrow_bytes_to_pandas_df(dataset.data.data)
    if rows.empty:
        return {}
    return {name: group["value"].tolist() for name, group in rows.groupby("line")}


def test_faults_that_are_on(api: Api, page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault has a card and is in the strip; without an answer of FAULTS_URL there is none."""
    monkeypatch.setenv("FAULTS_URL", f"http://127.0.0.1:{api.port}/faults")
    healthy(api)
    measured(api, good=100, failed=0)
    fault = {"service": "simulator", "kind": "lose-response", "share": 0.3, "strikes": 12}
    api.responders["/faults"] = data([fault])
    system(page)
    until(lambda: "12 disturbed so far" in texts(page.run()))
    assert "30% of the requests of the simulator" in texts(page)
    assert strip(page)["Simulator"] == "orange: lose-response 30%"
    api.responders["/faults"] = data({}, status=500)
    until(lambda: strip(page.run())["Simulator"] == "green: 252/min")


def test_an_api_that_is_not_ready_gets_the_time_that_it_asks_for(
    api: Api, page: AppTest, clock: Clock
) -> None:
    """Retry-After of /ready counts for the next look."""
    healthy(api)
    api.responders["/ready"] = headed(b"{}", 503, {"Retry-After": "30"})
    system(page)
    until(lambda: "orange: Alive, not ready" in badges(page.run()))
    asked = api.paths.count("/ready")
    for _ in range(5):
        clock.pass_by(4)
        page.run()
    assert api.paths.count("/ready") == asked
    clock.pass_by(15)
    until(lambda: bool(page.run()) and api.paths.count("/ready") > asked)
