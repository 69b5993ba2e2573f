"""Every way to start the API: none logs a name or an age, none starts with a wrong setting.

The servers are uvicorn, FastAPI's command, gunicorn, hypercorn and granian, and a program that
calls `uvicorn.run`.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import API, Served, free_port
from raw_http import HOST, exchange, http

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs fork")

RUN = "import uvicorn, sys; {}; uvicorn.run({}, port=int(sys.argv[1]), log_level='trace')"
WORKER = ("-k", "uvicorn.workers.UvicornWorker", "--bind", "127.0.0.1:{port}")
SERVERS = {
    "uvicorn": ("-m", "uvicorn", "main:app", "--port", "{port}"),
    "uvicorn, trace": ("-m", "uvicorn", "main:app", "--port", "{port}", "--log-level", "trace"),
    "uvicorn, reload": ("-m", "uvicorn", "main:app", "--port", "{port}", "--reload"),
    "uvicorn, workers": ("-m", "uvicorn", "main:app", "--port", "{port}", "--workers", "2"),
    "uvicorn, h11": ("-m", "uvicorn", "main:app", "--port", "{port}", "--http", "h11"),
    "fastapi dev": ("-m", "fastapi", "dev", "main.py", "--port", "{port}"),
    "fastapi run": ("-m", "fastapi", "run", "main.py", "--port", "{port}", "--host", "127.0.0.1"),
    "uvicorn.run, imported": ("-c", RUN.format("from main import app", "app"), "{port}"),
    "uvicorn.run, a name": ("-c", RUN.format("pass", "'main:app'"), "{port}"),
    "debug mode": ("-X", "dev", "-m", "uvicorn", "main:app", "--port", "{port}"),
    "gunicorn": ("-m", "gunicorn", "main:app", *WORKER, "--access-logfile", "-"),
    "gunicorn, preload": ("-m", "gunicorn", "main:app", *WORKER, "--preload"),
    "hypercorn": ("-m", "hypercorn", "main:app", "--bind", "127.0.0.1:{port}", "--access-logfile",
                  "-", "--log-level", "debug"),
    "granian": ("-m", "granian", "main:app", "--interface", "asgi", "--port", "{port}",
                "--access-log", "--log-level", "debug"),
}  # fmt: skip


def stop(served: Served) -> None:
    served.process.terminate()
    served.process.wait(20)


@pytest.mark.parametrize("server", SERVERS)
def test_no_log_has_a_name_or_an_age(
    serve: Callable[..., Served], server: str, tmp_path: Path
) -> None:
    """Not of a write, a search, a batch, a mistake, a WebSocket or a request that is no HTTP."""
    served = serve(*SERVERS[server], DATABASE_URL=f"sqlite:///{tmp_path}/users.db")
    with served.client() as client:
        for name, age in (("Zaphod", "97"), ("Zaphod", "1997"), ("Zaphod\x00", "97")):
            client.post("/users/", params={"user_id": "4", "name": name, "age": age})
            client.put("/users/4", params={"name": name, "age": age})
        client.get("/users/?name=Zaphod")
        client.get("/users/Zaphod")
        client.post("/users/batch", json={"5": {"name": "Zaphod", "age": 97}, "6": 97})
        client.post("/Zaphod?age=97", json={"name": "Zaphod"})
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    exchange(served.port, http("GET", "/ws?name=Zaphod", f"{HOST}\r\n{upgrade}\r\n{key}"))
    exchange(served.port, b"GET /Zaphod\r\nZaphod 97\r\n\r\n", end_input=True)
    stop(served)
    log = served.log.read_text(encoding="utf-8")

    assert "POST /users/" in log
    assert "Zaphod" not in log
    assert "age=" not in log


@pytest.mark.parametrize("server", [name for name in SERVERS if "imported" not in name])
def test_a_wrong_setting_ends_every_server(server: str) -> None:
    """The sentence is printed, and the exit code is not 0: 2 wherever the server allows it."""
    command = [each.format(port=free_port()) for each in SERVERS[server]]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=API,
        env={**os.environ, "MAX_USERS": "many"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "MAX_USERS must be a whole number from 1 to 999999999, not 'many'" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    supervised = server.startswith(("gunicorn", "hypercorn", "granian")) or "," in server
    assert ended.returncode == 2 or (supervised and ended.returncode != 0)


TWO = {
    "uvicorn": (*SERVERS["uvicorn"], "--workers", "2"),
    "gunicorn": (*SERVERS["gunicorn"], "-w", "2"),
    "hypercorn": (*SERVERS["hypercorn"], "-w", "2"),
    "granian": (*SERVERS["granian"], "--workers", "2"),
    "uvicorn.run": ("{file}", "{port}"),
}


@pytest.mark.parametrize("server", TWO)
def test_two_workers_over_memory_do_not_start(server: str, tmp_path: Path) -> None:
    """Each would have its own users; also if only the program knows that there are two."""
    file = tmp_path / "start.py"
    run = "uvicorn.run('main:app', port=int(sys.argv[1]), workers=2)"
    file.write_text(f"import sys, uvicorn\nif __name__ == '__main__':\n    {run}\n")
    command = [each.format(port=free_port(), file=file) for each in TWO[server]]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=API,
        env={**os.environ, "PYTHONPATH": str(API)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "DATABASE_URL must be set for more than one worker" in ended.stderr
    assert ended.returncode != 0 or server == "uvicorn.run"  # whose supervisor got SIGTERM
