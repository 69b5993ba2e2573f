"""The access log and the metrics: what they show of a request, and what they never show."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import UVICORN, Served, api_client
from starlette.testclient import TestClient

ACCESS_LOG_LINE = re.compile(r"INFO (\w+) (\S+) (\d{3}) ([\d.]+) ms (\S+)$")
# What may contain a 97 by chance: the time of an event, a duration, a random id, a process id.
BY_CHANCE = re.compile(r"^\d\S+ \d\S+|[\d.]+ ms \w+|\[\d+\]|127\.0\.0\.1:\d+", re.MULTILINE)
IMPORTED = "import uvicorn; from main import app; uvicorn.run(app, port={port}%s)"


def access_log_lines(log: str) -> list[tuple[str, str, str]]:
    """Return method, route and status of each line of the access log."""
    found = (ACCESS_LOG_LINE.search(line) for line in log.splitlines())
    return [(match[1], match[2], match[3]) for match in found if match]


def test_the_access_log_has_route_templates_instead_of_addresses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line has method, route template, status, milliseconds and request id, and no more."""
    with api_client() as api:
        api.post("/users/?user_id=123456&name=Zebedee&age=97")
        api.get("/users/123456")
        api.get("/users/123456/../Zebedee")
        api.head("/health")
        api.request("BREW", "/users/")
    log = capsys.readouterr().out

    assert access_log_lines(log)[-5:] == [
        ("POST", "/users/", "201"),
        ("GET", "/users/{user_id}", "200"),
        ("GET", "/users/{user_id}", "422"),
        ("HEAD", "/health", "200"),
        ("OTHER", "/users/", "405"),
    ]


@pytest.mark.parametrize(
    "start",
    [
        ["-m", "uvicorn", "main:app", "--port", "{port}"],
        [*UVICORN, "--log-level", "trace", "--access-log"],
        ["-m", "fastapi", "run", "main.py", "--host", "127.0.0.1", "--port", "{port}"],
        ["-c", IMPORTED % ""],
        ["-c", IMPORTED % ", log_level='trace', access_log=True"],
    ],
    ids=["uvicorn", "uvicorn trace", "fastapi run", "uvicorn.run", "uvicorn.run trace"],
)
def test_no_name_and_no_age_in_the_log(serve: Callable[..., Served], start: list[str]) -> None:
    """Whatever starts the server, nothing in its output is a name or an age, valid or not."""
    served = serve(*start, OPEN_TO_NETWORK="yes")
    with served.client() as client:
        for name, age in (("Zebedee", "97"), ("Zebedee%0AINFO forged", "97"), ("Zebedee", "97979")):
            client.post(f"/users/?user_id=5&name={name}&age={age}")
            client.put(f"/users/5?name={name}&age={age}")
        client.post("/users/batch", json={"6": {"name": "Zebedee", "age": 97}})
        client.post("/users/batch", json={"6": {"name": "Zebedee", "age": 970}})
        client.get("/users/")
        client.get("/nowhere/Zebedee?age=97")
    log = served.stop()

    assert len(access_log_lines(log)) >= 10
    assert "Zebedee" not in log
    assert "forged" not in log
    assert "97" not in BY_CHANCE.sub("", log)


def test_the_start_is_logged_with_the_configuration(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line has the configuration, and says whether the users outlive the process."""
    with api_client(MAX_USERS="5"), api_client(DATABASE_URL=sqlite_url, DRAIN_SECONDS="2"):
        in_memory, on_disk = capsys.readouterr().out.splitlines()

    assert "store=memory (users are lost when this process ends), writes=open, " in in_memory
    assert "max_users=5 allowed_hosts=('testserver', 'localhost', " in in_memory
    assert "store=sqlite (users outlive this process), writes=open, " in on_disk
    assert on_disk.endswith("log_format='text' drain_seconds=2.0")


def test_json_log(serve: Callable[..., Served]) -> None:
    """With LOG_FORMAT=json each line of the log is an object, also uvicorn's own lines."""
    served = serve(LOG_FORMAT="json")
    with served.client() as client:
        client.get("/users/9", headers={"x-request-id": "abc-1"})
    # uvicorn writes its first lines before it has imported the API.
    lines = [line for line in served.stop().splitlines() if line.startswith("{")]
    access = [json.loads(line) for line in lines if "abc-1" in line]

    assert len(lines) > 3
    assert [(line["level"], line["route"], line["status"]) for line in access] == [
        ("INFO", "/users/{user_id}", 404)
    ]


def test_metrics_count_by_route_template(api: TestClient) -> None:
    """Requests are counted by method, route and status, and timed; users are counted."""
    api.post("/users/?user_id=1&name=Bo&age=1")
    api.get("/users/1")
    api.get("/users/2")
    api.get("/nowhere/1")
    text = api.get("/metrics").text

    assert 'api_requests_total{method="POST",route="/users/",status="201"} 1.0' in text
    assert 'api_requests_total{method="GET",route="/users/{user_id}",status="200"} 1.0' in text
    assert 'api_requests_total{method="GET",route="/users/{user_id}",status="404"} 1.0' in text
    assert 'api_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'api_request_duration_seconds_count{method="GET",route="/users/{user_id}"} 2.0' in text
    assert "api_users 1.0" in text
    assert 'api_build_info{version="' in text


def test_metrics_of_a_database(database_url: str) -> None:
    """Over a database there are also the ratios of the queues, and the durations of commits."""
    with api_client(DATABASE_URL=database_url) as api:
        api.post("/users/?user_id=1&name=Bo&age=1")
        api.get("/users/1")
        text = api.get("/metrics").text

    assert 'api_store_queue_ratio{queue="writes"} 0.0' in text
    assert 'api_store_queue_ratio{queue="reads"} 0.0' in text
    assert "api_store_commit_seconds_count 2.0" in text  # the check at the start, and the write


def test_an_unknown_number_of_users_is_nan(sqlite_url: str, tmp_path: Path) -> None:
    """While the database does not respond, the metric is neither 0 nor the last number."""
    with api_client(DATABASE_URL="postgresql://lab@127.0.0.1:1/lab") as api:
        assert "\napi_users NaN\n" in api.get("/metrics").text
    with api_client(DATABASE_URL=sqlite_url) as api:
        api.post("/users/?user_id=1&name=Bo&age=1")
        assert "\napi_users 1.0\n" in api.get("/metrics").text
        with closing(sqlite3.connect(tmp_path / "users.db")) as database:
            database.execute("DROP TABLE age_counts")
        assert "\napi_users NaN\n" in api.get("/metrics").text


def test_a_simulator_reports_itself(api: TestClient) -> None:
    """The header X-Simulator of any request becomes metrics; another form is ignored."""
    good = "demo-1a; created=12; given-up=3; per-second=4.25"
    for header in (
        good,
        "demo; created=x",
        "a b; created=1; given-up=0; per-second=1",
        "x" * 5_000,
    ):
        assert api.get("/health", headers={"x-simulator": header}).status_code == 200
    lines = api.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("api_simulator"))

    assert values.pop('api_simulator_seen_timestamp_seconds{simulator="demo-1a"}')
    assert {name: float(value) for name, value in values.items()} == {
        'api_simulator_users{outcome="created",simulator="demo-1a"}': 12,
        'api_simulator_users{outcome="given up",simulator="demo-1a"}': 3,
        'api_simulator_users_per_second{simulator="demo-1a"}': 4.25,
    }


def test_only_so_many_simulators_are_kept(api: TestClient) -> None:
    """The fifty that reported last: a client cannot fill the memory with names."""
    for number in (0, *range(60), 0):
        report = f"s{number}; created=1; given-up=0; per-second=1"
        api.get("/health", headers={"x-simulator": report})
    names = re.findall(r'per_second\{simulator="s(\d+)"\}', api.get("/metrics").text)

    assert sorted(map(int, names)) == [0, *range(11, 60)]
