"""Monitoring: Prometheus collects from real APIs, and alerts and panels use real metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import Terminal, free_port, service_python, wait_until

from tools.processes import ROOT

FOLDER = ROOT / "deploy/observability"
METRIC = re.compile(r"\b(api_\w+|up)\b(?=[\s{)\[]|$)")


@pytest.fixture(autouse=True)
def _prometheus() -> None:
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("Prometheus is not installed")


def promtool(*arguments: str) -> str:
    """Run promtool in the folder of the files; return its output; fail if it finds a mistake."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """Return the queries of each panel of the dashboard."""
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]] for panel in board["panels"]
    }


# ------------------------------------------------------------------------------------- the files


def test_the_files_are_valid() -> None:
    """promtool accepts all configurations and rules, without a warning."""
    configs = [path.name for path in FOLDER.glob("prometheus*.yml")]
    assert len(configs) == 3
    for config in configs:
        assert "FAILED" not in promtool("check", "config", config)
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


def test_each_alert_fires_when_it_should() -> None:
    """alerts_test.yml has, for each alert, numbers that make it fire, and numbers that do not."""
    tried = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tried for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if "exp_alerts" in case}
    silent = {case["alertname"] for case in cases if "exp_alerts" not in case}

    promtool("test", "rules", "alerts_test.yml")
    assert firing == alerts().keys()
    assert silent | {"ApiSlow"} == alerts().keys()  # in its test a slow listing does not fire


def test_an_alert_says_what_to_do() -> None:
    """Each alert has a severity, a summary and an action."""
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("page", "ticket"), name
        assert alert["annotations"].keys() == {"summary", "action"}, name


def test_prometheus_finds_the_pods() -> None:
    """In Kubernetes it looks up the headless Service of all pods, and uses their port."""
    (job,) = yaml.safe_load((FOLDER / "prometheus-kubernetes.yml").read_text("utf-8"))[
        "scrape_configs"
    ]
    (discovery,) = job["dns_sd_configs"]
    network = (ROOT / "deploy/kubernetes/overlays/production/network.yaml").read_text(
        encoding="utf-8"
    )
    services = [each for each in yaml.safe_load_all(network) if each["kind"] == "Service"]

    (service,) = services
    assert discovery["names"] == [f"{service['metadata']['name']}.microservices.svc.cluster.local"]
    assert discovery["port"] == service["spec"]["ports"][0]["port"]
    assert service["spec"]["clusterIP"] == "None"


# ------------------------------------------------------------------------------ with Prometheus


class Prometheus:
    """A running Prometheus, with the repository's alerts at shorter intervals."""

    def __init__(self, start: Callable[..., Terminal], folder: Path, targets: list[str]) -> None:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
        rules = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
        quick = re.sub(r"\bfor: \d+m$", "for: 1s", rules, flags=re.M)
        (folder / "alerts.yml").write_text(quick, encoding="utf-8")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v1"
        start(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ).wait_for("Server is ready")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the value of an expression now; fail if it is invalid."""
        response = httpx2.get(
            f"{self.url}/query", params={"query": expression}, trust_env=False, timeout=10
        ).json()
        assert response["status"] == "success", response
        found: list[dict[str, Any]] = response["data"]["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire, each with its instance."""
        found = httpx2.get(f"{self.url}/alerts", trust_env=False, timeout=10).json()["data"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in found["alerts"]
            if alert["state"] == "firing"
        }


@pytest.fixture
def apis(terminal: Callable[..., Terminal], tmp_path: Path) -> dict[str, Terminal]:
    """Return two API processes with one database, by their addresses."""
    started = {}
    for _ in range(2):
        port = free_port()
        command = [service_python("api"), "-m", "uvicorn", "main:app", "--port", str(port)]
        url = f"sqlite:///{tmp_path / 'users.db'}"
        started[f"localhost:{port}"] = terminal(*command, folder="api", DATABASE_URL=url)
    for each in started.values():
        each.wait_for("Uvicorn running")
    return started


def use(http: httpx2.Client, address: str) -> None:
    """Make requests with every status that a panel shows."""
    for number in range(20):
        http.post(f"http://{address}/users/?user_id={number}&name=Alice&age=30")
        http.get(f"http://{address}/users/{number}")
    http.get(f"http://{address}/users/99999999")
    http.get(f"http://{address}/stats/ages")


def test_a_killed_api_raises_an_alert(
    apis: dict[str, Terminal],
    terminal: Callable[..., Terminal],
    tmp_path: Path,
    http: httpx2.Client,
) -> None:
    """Prometheus collects from two APIs, every panel has data, and ApiDown fires for a kill."""
    alive, killed = apis
    prometheus = Prometheus(terminal, tmp_path, list(apis))
    wait_until("both to be up", lambda: len(prometheus.query('up{job="api"} == 1')) == 2, 30)

    # A rate needs two collections, with requests in between.
    def shown(expression: str) -> bool:
        use(http, alive)
        return any(sample["value"][1] != "NaN" for sample in prometheus.query(expression))

    for title, queries in panels().items():
        for query in queries:
            wait_until(f"{title}: {query}", lambda query=query: shown(query), 30)  # type: ignore[misc]
    assert prometheus.firing() == set()

    apis[killed].kill()
    wait_until("the alert", lambda: ("ApiDown", killed) in prometheus.firing(), 30)
    assert prometheus.firing() == {("ApiDown", killed)}


def test_only_exported_metrics_are_used(apis: dict[str, Terminal], http: httpx2.Client) -> None:
    """Alerts, panels and the README use exported metrics only, and the README has all of them."""
    address = next(iter(apis))
    use(http, address)
    text = http.get(f"http://{address}/metrics").text
    exported = set(re.findall(r"^(\w+?)(?:\{.*\})? [\d.e+-]+$", text, re.M))
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    rules = [rule["expr"] for rule in alerts().values()]
    queries = [query for queries in panels().values() for query in queries]
    named = {name for text in (*rules, *queries) for name in METRIC.findall(text)} - {"up"}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert len(named) >= 6
    assert named <= exported
    assert {name for name in families if not name.endswith("_created")} == set(
        re.findall(r"^\| `(api_\w+)` \|", readme, re.M)
    )
