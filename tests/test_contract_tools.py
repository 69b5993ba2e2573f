"""The contract is read by other people's tools: two linters, and generators of two clients."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Terminal
from served import Api

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "contract"
TOOLS = CONTRACT / "node_modules" / ".bin"

with_npm = pytest.mark.skipif(
    not (TOOLS / "tsc").exists(), reason="needs Node.js and `npm ci --prefix contract`"
)


@pytest.fixture
def api_url(terminal: Callable[..., Terminal]) -> str:
    """Return the address of an API without users."""
    api = Api(terminal, None)
    api.start()
    return f"http://127.0.0.1:{api.port}"


def tool(name: str, *arguments: str, folder: Path = CONTRACT) -> str:
    """Run a tool of contract/package.json; return what it prints. Fail if the tool fails."""
    command = [str(TOOLS / name), *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@with_npm
def test_redocly_finds_no_mistake() -> None:
    """Also no warning, with its strict rules, except for the address /users/ of the lab."""
    tool("redocly", "lint", "openapi.json", "--config", "redocly.yaml")


@with_npm
def test_spectral_finds_no_mistake() -> None:
    """Also no warning."""
    tool("spectral", "lint", "openapi.json", "--fail-severity", "warn")


@with_npm
def test_a_typescript_client_does_all_calls(tmp_path: Path, api_url: str) -> None:
    """Types made by openapi-typescript fit contract/client.ts, which then makes each call."""
    for name in ("client.ts", "package.json"):
        shutil.copy(CONTRACT / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(CONTRACT / "node_modules")
    tool("openapi-typescript", str(CONTRACT / "openapi.json"), "-o", str(tmp_path / "api.d.ts"))
    options = ["--strict", "--target", "es2022", "--module", "es2022", "--skipLibCheck"]
    tool("tsc", *options, "--moduleResolution", "bundler", "client.ts", folder=tmp_path)
    ran = subprocess.run(
        ["node", "client.js", api_url], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "created": {"user_id": 7, "name": "Alice", "age": 30},
        "changed": 31,
        "stale": 412,
        "batch": 1,
        "listed": {"8": {"name": "Alice", "age": 31}},
        "ages": 2,
        "health": "healthy",
        "store": "memory",
        "metrics": True,
        "deleted": 204,
    }


def test_a_python_client_does_all_calls(
    tmp_path: Path,
    api_url: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """openapi-python-client makes a package whose functions make each call, with typed results."""
    package = tmp_path / "client"
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", str(CONTRACT / "openapi.json"), "--output-path", str(package)]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    client = importlib.import_module("client").Client(base_url=api_url)
    request.addfinalizer(client.get_httpx_client().close)

    def call(name: str, /, **arguments: Any) -> Any:
        return importlib.import_module(f"client.api.{name}").sync_detailed(
            client=client, **arguments
        )

    users = importlib.import_module("client.models").UsersById
    created = call("users.create_user", user_id=7, name="Alice", age=30)
    etag = call("users.get_user", user_id=7).headers["etag"]
    changed = call("users.update_user", user_id=7, name="Bob", age=31, if_match=etag)
    stale = call("users.delete_user", user_id=7, if_match=etag)
    some = users.from_dict({"8": {"name": "Alice", "age": 31}})
    batch = call("users.create_users", body=some)
    listed = call("users.list_users", limit=10)
    ages = call("statistics.count_ages")

    assert created.parsed.to_dict() == {"user_id": 7, "name": "Alice", "age": 30}
    assert changed.parsed.age == 31
    assert (stale.status_code, stale.parsed.user.name) == (412, "Bob")
    assert batch.parsed.created == 1
    assert listed.parsed["8"].age == 31
    assert ages.parsed.total == 2
    assert call("probes.get_health").parsed.status == "healthy"
    assert call("probes.get_readiness").parsed.store == "memory"
    assert "api_users 2" in call("probes.get_metrics").parsed
    assert call("users.delete_user", user_id=7).status_code == 204
