"""What the operator sees, and what nobody may see there."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Served
from starlette.testclient import TestClient

from crud import MemoryStore
from main import create_app
from settings import Settings

LINE = re.compile(r"INFO (\w+) (\S+) (\d{3}) ([\d.]+) ms (\S+)$")


def access_lines(text: str) -> list[tuple[str, str, str]]:
    """Return method, route and status of each access line."""
    found = (LINE.search(line) for line in text.splitlines())
    return [(match[1], match[2], match[3]) for match in found if match]


def test_access_lines_have_templates_instead_of_addresses(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line has method, route template, status, milliseconds and request id, and no more."""
    with TestClient(create_app(settings)) as api:
        api.post("/users/?user_id=123456&name=Zebedee&age=97")
        api.get("/users/123456")
        api.get("/users/123456/../Zebedee")
        api.head("/health")
        api.request("BREW", "/users/")
    log = capsys.readouterr().out

    assert access_lines(log)[-5:] == [
        ("POST", "/users/", "201"),
        ("GET", "/users/{user_id}", "200"),
        ("GET", "/users/{user_id}", "422"),
        ("HEAD", "/health", "200"),
        ("OTHER", "/users/", "405"),
    ]


def test_no_name_and_no_age_in_the_log(serve: Callable[..., Served]) -> None:
    """Served as documented, nothing that the API writes has a name or an age, valid or not."""
    served = serve()
    with served.client() as client:
        for name, age in (("Zebedee", "97"), ("Zebedee%0AINFO forged", "97"), ("Zebedee", "97979")):
            client.post(f"/users/?user_id=5&name={name}&age={age}")
            client.put(f"/users/5?name={name}&age={age}")
        client.get("/users/")
        client.get("/nowhere/Zebedee?age=97")
    served.process.terminate()
    served.process.wait()  # so that the last line is there
    log = served.log.read_text()

    assert len(access_lines(log)) >= 8
    assert "Zebedee" not in log
    assert "forged" not in log
    assert (
        re.search(r"\b97", re.sub(r"[\d.]+ ms \w+|^\S+ \S+|\[\d+\]", "", log, flags=re.M)) is None
    )


def test_the_start_says_what_it_is_configured_to(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    """One line has the resolved configuration and what becomes of the users."""
    log = serve(MAX_USERS="5").log.read_text()
    on_disk = serve(DATABASE_URL=f"sqlite:///{tmp_path / 'users.db'}").log.read_text()

    assert (
        "store=memory (users are lost when this process ends), writes=open, max_users=5,"
        " allowed_hosts=localhost,127.0.0.1,[::1], log_format=text, drain_seconds=0" in log
    )
    assert "store=sqlite (users outlive this process), writes=open, allowed_hosts=" in on_disk


def test_json_lines(serve: Callable[..., Served]) -> None:
    """With LOG_FORMAT=json each line of the log is an object, uvicorn's own included."""
    served = serve(LOG_FORMAT="json")
    with served.client() as client:
        client.get("/users/9", headers={"x-request-id": "abc-1"})
    served.process.terminate()
    served.process.wait()
    # The first lines are uvicorn's, from before it has imported the API.
    lines = [line for line in served.log.read_text().splitlines() if line.startswith("{")]
    access = [json.loads(line) for line in lines if "abc-1" in line]

    assert len(lines) > 3
    assert [(line["level"], line["route"], line["status"]) for line in access] == [
        ("INFO", "/users/{user_id}", 404)
    ]


def test_a_request_id_is_kept_or_made(api: TestClient) -> None:
    """The sender's X-Request-ID comes back; without a usable one there is a new one each time."""
    assert (
        api.get("/health", headers={"x-request-id": "Lab_1.a-Z"}).headers["x-request-id"]
        == "Lab_1.a-Z"
    )
    for unusable in ("", "a b", "x" * 65, "ä", "a;b"):
        sent = {"x-request-id": unusable.encode()}
        made = api.get("/health", headers=sent).headers["x-request-id"]  # type: ignore[arg-type]
        assert re.fullmatch("[0-9a-f]{16}", made)
    assert api.get("/health").headers["x-request-id"] != api.get("/health").headers["x-request-id"]


def test_metrics_count_by_route_template(api: TestClient) -> None:
    """Prometheus finds requests by method, route and status, their durations, and the users."""
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


def test_metrics_of_a_store_on_disk(serve: Callable[..., Served], tmp_path: Path) -> None:
    """Over a database Prometheus also finds how full the queues are, and how long commits take."""
    served = serve(DATABASE_URL=f"sqlite:///{tmp_path / 'users.db'}")
    with served.client() as client:
        client.post("/users/?user_id=1&name=Bo&age=1")
        client.get("/users/1")
        text = client.get("/metrics").text

    assert 'api_store_queue_ratio{queue="writes"} 0.0' in text
    assert 'api_store_queue_ratio{queue="reads"} 0.0' in text
    assert "api_store_commit_seconds_count 1.0" in text


def test_users_that_nobody_knows_of_are_not_none(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    """An API that does not reach its database tells no number of users: not 0, and not the last."""
    never = serve(DATABASE_URL="postgresql://lab@127.0.0.1:1/lab")
    with never.client() as client:
        assert "\napi_users NaN\n" in client.get("/metrics").text
    lost = serve(DATABASE_URL=f"sqlite:///{tmp_path / 'users.db'}")
    with lost.client() as client:
        client.post("/users/?user_id=1&name=Bo&age=1")
        assert "\napi_users 1.0\n" in client.get("/metrics").text
        with closing(sqlite3.connect(tmp_path / "users.db")) as database:
            database.execute("DROP TABLE age_counts")
        assert "\napi_users NaN\n" in client.get("/metrics").text


def test_a_fault_is_answered_and_logged_under_its_id(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault nobody foresaw is a 500 in the one shape; its traceback is in the log, by its id."""

    async def broken(*_: object) -> tuple[str, int]:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(MemoryStore, "get", broken)
    with TestClient(create_app(settings)) as api:
        answer = api.get("/users/1", headers={"x-request-id": "fire-1"})
    log = capsys.readouterr().out

    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal Server Error"}
    assert answer.headers["x-request-id"] == "fire-1"
    assert "request fire-1 failed" in log
    assert "the disk is on fire" in log
    assert access_lines(log)[-1] == ("GET", "/users/{user_id}", "500")
