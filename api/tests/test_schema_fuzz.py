"""The published OpenAPI document against the API as it is served, by Schemathesis.

Schemathesis reads the document and makes up requests that it allows, requests that it forbids, and
stories that lead from one call to the next; every answer must be one that the document declares.
"""

import json
import os
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from conftest import Served

CASES = 20_000 if os.environ.get("LAB_LONG") else 2_000
EXAMPLES = 350  # of each call, in a run; a run has a little more than 2,000 cases
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path: Path, serve: Callable[..., Served]) -> Served:
    """Return an API over an empty store of each kind."""
    if request.param == "memory":
        return serve()
    url = f"sqlite:///{tmp_path}/users.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        with psycopg.connect(url) as connection:
            connection.execute("DROP TABLE IF EXISTS users, age_counts, schema_version")
    return serve(DATABASE_URL=url)


def test_the_api_is_what_it_publishes(
    served: Served, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All checks, 2,000 cases (20,000 with `lab.py test --long`), without a failure."""
    st = shutil.which("st", path=sysconfig.get_path("scripts"))
    assert st is not None
    first_seed = random.randrange(2**31)
    runs, cases = 0, 0
    while cases < CASES:
        report = tmp_path / "report.json"
        command = [
            st, "--no-color", "run", f"{served.url}/openapi.json", "--checks", "all",
            "--max-examples", str(EXAMPLES), "--seed", str(first_seed + runs),
            "--suppress-health-check", "all", "--continue-on-failure",
            "--report", "json", "--report-json-path", str(report),
        ]  # fmt: skip
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "NO_PROXY": "127.0.0.1"}
        told = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stdout + told.stderr
        found = json.loads(report.read_text(encoding="utf-8"))
        assert found["operations"]["tested"] == 10
        assert found["warnings"]["unsupported_regex"] == []
        cases += found["test_cases"]["generated"]
        runs += 1
    print(f"{request.node.name}: {cases} cases, seeds from {first_seed}, {runs} runs")

    assert "Traceback" not in served.log.read_text(encoding="utf-8")
