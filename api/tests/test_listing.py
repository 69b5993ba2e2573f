"""Listings that nobody reads: what they hold is given back."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

import bulk
from crud import MAX_SNAPSHOTS, SNAPSHOT_CHUNK_USERS
from main import create_app
from settings import Settings


def scope(method: str, path: str, spec_version: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }


@pytest.mark.parametrize("limit", ["SEND_TIMEOUT_SECONDS", "LISTING_TIMEOUT_SECONDS"])
@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])  # of uvicorn today, and of ASGI
def test_a_listing_that_nobody_reads_is_given_up(
    spec_version: str,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a while for a piece, or for all, it ends without its end; its place is free again."""
    monkeypatch.setattr(bulk, limit, 0.02)
    users = ",".join(f'"{i}": {{"name": "Al", "age": 1}}' for i in range(SNAPSHOT_CHUNK_USERS + 1))
    waiting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await waiting.wait()
        raise AssertionError

    body = [f"{{{users}}}".encode()]

    async def send_nothing_more(message: MutableMapping[str, Any]) -> None:
        started.append(message.get("status"))
        if message["type"] == "http.response.body" and message.get("more_body"):
            await waiting.wait()

    started: list[object] = []

    async def story() -> None:
        app = create_app(Settings())
        await app(scope("POST", "/users/batch", spec_version), receive, send_nothing_more)
        assert started.pop(0) == 200
        for _ in range(MAX_SNAPSHOTS + 1):
            started.clear()
            await app(scope("GET", "/users/", spec_version), receive, send_nothing_more)
            assert started == [200, None]
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(story(), timeout=30))

    printed = capsys.readouterr().out
    assert printed.count("a listing was stopped") == MAX_SNAPSHOTS + 1
    assert "Traceback" not in printed
