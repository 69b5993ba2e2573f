"""The published OpenAPI document compared with the served API, by Schemathesis.

Schemathesis reads the document and generates requests that it allows, requests that it forbids, and
sequences of linked calls; every response must be one that the document declares.
"""

import json
import os
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Served

LONG = bool(os.environ.get("LAB_LONG"))
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


def test_the_api_is_what_it_publishes(
    store_variables: dict[str, str],
    tmp_path: Path,
    serve: Callable[..., Served],
    request: pytest.FixtureRequest,
) -> None:
    """Over each store all checks of Schemathesis pass.

    There are 600 cases over each, or 20,000 with `lab.py test --long`.
    """
    served = serve(**store_variables)
    cases_wanted, examples = (20_000, 350) if LONG else (600, 60)  # examples of each call
    st = shutil.which("st", path=sysconfig.get_path("scripts"))
    assert st is not None
    first_seed = random.randrange(2**31)
    runs, cases = 0, 0
    while cases < cases_wanted:
        report = tmp_path / "report.json"
        command = [
            st, "--no-color", "run", f"{served.url}/openapi.json", "--checks", "all",
            "--max-examples", str(examples), "--seed", str(first_seed + runs),
            "--suppress-health-check", "all", "--continue-on-failure",
            "--report", "json", "--report-json-path", str(report),
        ]  # fmt: skip
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "NO_PROXY": "127.0.0.1"}
        finished = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        found = json.loads(report.read_text(encoding="utf-8"))
        assert found["operations"]["tested"] == 10
        assert found["warnings"]["unsupported_regex"] == []
        cases += found["test_cases"]["generated"]
        runs += 1
    print(f"{request.node.name}: {cases} cases, seeds from {first_seed}, {runs} runs")

    assert "Traceback" not in served.log.read_text(encoding="utf-8")
