"""What an operator sees: Prometheus collects from real APIs, and the alerts and panels mean it."""

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
        pytest.skip("there is no Prometheus on this machine")


def promtool(*words: str) -> str:
    """Run promtool where the files are; return what it prints, and fail if it finds a mistake."""
    done = subprocess.run(
        ["promtool", *words], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """Return the queries of each of the dashboard's panels."""
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]] for panel in board["panels"]
    }


# ------------------------------------------------------------------------------------- the files


def test_promtool_finds_nothing() -> None:
    """All configurations and all rules are valid, without a warning."""
    configs = [path.name for path in FOLDER.glob("prometheus*.yml")]
    assert len(configs) == 3
    for config in configs:
        assert "FAILED" not in promtool("check", "config", config)
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


def test_each_alert_fires_when_it_should() -> None:
    """Each alert is tried with numbers that make it fire, and with numbers that do not."""
    tried = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tried for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if "exp_alerts" in case}
    silent = {case["alertname"] for case in cases if "exp_alerts" not in case}

    promtool("test", "rules", "alerts_test.yml")
    assert firing == alerts().keys()
    assert silent | {"ApiSlow"} == alerts().keys()  # its own test has a listing that does not fire


def test_an_alert_says_what_to_do() -> None:
    """Each alert has a severity, a summary and an action."""
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("page", "ticket"), name
        assert alert["annotations"].keys() == {"summary", "action"}, name


def test_prometheus_asks_the_pods_that_are_there() -> None:
    """In Kubernetes it looks up the Service that stands for all pods, at their port."""
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


# ------------------------------------------------------------------------------- the real engine


class Prometheus:
    """A Prometheus of its own, with the alerts of the repository made quick."""

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
        """Return what an expression is at this moment; fail if it is none."""
        answer = httpx2.get(
            f"{self.url}/query", params={"query": expression}, trust_env=False, timeout=10
        ).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire, each with the instance that it is about."""
        found = httpx2.get(f"{self.url}/alerts", trust_env=False, timeout=10).json()["data"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in found["alerts"]
            if alert["state"] == "firing"
        }


@pytest.fixture
def apis(terminal: Callable[..., Terminal], tmp_path: Path) -> dict[str, Terminal]:
    """Return two API processes over one database, by their addresses."""
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
    """Make some requests, of every outcome that a panel shows."""
    for number in range(20):
        http.post(f"http://{address}/users/?user_id={number}&name=Alice&age=30")
        http.get(f"http://{address}/users/{number}")
    http.get(f"http://{address}/users/99999999")
    http.get(f"http://{address}/stats/ages")


def test_a_dead_api_is_told(
    apis: dict[str, Terminal],
    terminal: Callable[..., Terminal],
    tmp_path: Path,
    http: httpx2.Client,
) -> None:
    """Prometheus collects from two APIs, every panel shows something, and a killed one is told."""
    alive, dead = apis
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

    apis[dead].kill()
    wait_until("the alert", lambda: ("ApiDown", dead) in prometheus.firing(), 30)
    assert prometheus.firing() == {("ApiDown", dead)}


def test_only_metrics_that_are_there(apis: dict[str, Terminal], http: httpx2.Client) -> None:
    """Every metric that an alert, a panel or the README names is exported, and none is left out."""
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
