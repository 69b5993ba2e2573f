"""Production on one machine: replicas, secrets, networks, privileges, logs and metrics."""

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx2
import pytest
from conftest import free_port, open_page, wait_until
from playwright.sync_api import Browser, expect
from production import PASSWORD, SHELLS_TOKEN, TOKEN, Caller, Production


def test_each_replica_serves(production: Production) -> None:
    """Each of three replicas serves at least a fifth of the requests of a few clients."""
    with contextlib.ExitStack() as stack:
        callers = [
            stack.enter_context(contextlib.closing(Caller(production.port))) for _ in range(6)
        ]
        responses = [caller.call("GET", "/stats/ages") for _ in range(100) for caller in callers]
    replicas = Counter(headers["X-Replica"] for _, _, headers in responses)
    print(replicas)

    assert {status for status, _, _ in responses} == {200}
    assert len(replicas) == 3
    assert min(replicas.values()) >= 600 / 5


def test_every_replica_has_the_same_users(caller: Caller) -> None:
    """A user that one replica stored is in all of them at once: the store is PostgreSQL."""
    created, _, _ = caller.call("POST", "/users/?user_id=9000&name=Alice&age=30")
    shown = {
        (headers["X-Replica"], body)
        for _, body, headers in (caller.call("GET", "/users/9000") for _ in range(20))
    }
    _, ready, _ = caller.call("GET", "/ready")

    assert created == 201
    assert len(shown) == 3
    assert {body for _, body in shown} == {b'{"user_id":9000,"name":"Alice","age":30}'}
    assert json.loads(ready) == {"status": "ready", "store": "postgresql", "durable": True}


@pytest.mark.parametrize("secret", ["api_token", "database_password"])
def test_a_missing_secret_prevents_the_start(either: Production, secret: str) -> None:
    """Without the file of a secret, Compose starts no API, and the message names the file."""
    kept = either.folder / "secrets" / f"{secret}.kept"
    (either.folder / "secrets" / secret).rename(kept)
    try:
        done = either.try_compose("run", "--rm", "-T", "--no-deps", "api")
    finally:
        kept.rename(either.folder / "secrets" / secret)

    assert done.returncode != 0
    assert f"/secrets/{secret}" in done.stderr
    assert "does not exist" in done.stderr


@pytest.mark.usefixtures("native_engine")
def test_an_unusable_secret_prevents_the_start(production: Production) -> None:
    """With an empty or unreadable file the API ends with one sentence and exit code 2."""
    token = production.folder / "secrets" / "api_token"
    try:
        token.write_text("\n")
        empty = production.try_compose("run", "--rm", "-T", "--no-deps", "api")
        token.write_text(TOKEN)
        token.chmod(0o600)
        unreadable = production.try_compose("run", "--rm", "-T", "--no-deps", "api")
    finally:
        production.write_secret("api_token", TOKEN)

    for done, sentence in (
        (empty, "API_TOKEN_FILE must name a file with one line of text in it"),
        (unreadable, "API_TOKEN_FILE must name a file that can be read: Permission denied"),
    ):
        assert done.returncode == 2
        assert sentence in (done.stdout + done.stderr).splitlines()
        assert "Traceback" not in done.stdout + done.stderr


def test_the_token_of_the_shell_is_not_passed_on(either: Production) -> None:
    """The classroom's file passes API_TOKEN of the shell to containers; production does not."""
    assert SHELLS_TOKEN not in either.compose("config")


def test_only_the_load_balancer_has_a_published_port(production: Production) -> None:
    """Of seven containers only the load balancer has a port, and only at the given address."""
    form = '{{index .Config.Labels "com.docker.compose.service"}} {{json .NetworkSettings.Ports}}'
    containers = production.compose("ps", "--quiet").split()
    ports = {
        (service, binding["HostIp"], binding["HostPort"])
        for line in production.docker("inspect", "--format", form, *containers).splitlines()
        for service, _, published in [line.partition(" ")]
        for bindings in json.loads(published).values()
        for binding in bindings or []
    }

    assert len(containers) == 7
    assert ports == {("edge", "127.0.0.1", str(production.port))}


def test_the_networks_are_those_of_the_picture(production: Production) -> None:
    """Only the API can connect to the database; only the load balancer can connect outside."""
    form = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}"
    networks = {
        service: {
            name.removeprefix(f"{production.project}_")
            for name in production.docker("inspect", "--format", form, container).split()
        }
        for service in ("edge", "api", "simulator", "frontend", "postgres")
        for container in production.containers(service)
    }
    internal = {
        name
        for name in set().union(*networks.values())
        if production.docker(
            "network", "inspect", "--format", "{{.Internal}}", f"{production.project}_{name}"
        )
        == "true"
    }

    assert {service for service, names in networks.items() if names - internal} == {"edge"}
    assert {service for service, names in networks.items() if "store" in names} == {
        "api",
        "postgres",
    }


@pytest.mark.parametrize("service", ["edge", "api", "simulator", "frontend", "postgres"])
def test_least_privilege_in_production(production: Production, service: str) -> None:
    """No process is root; memory and processes have limits; only the database writes to disk."""
    container, *_ = production.containers(service)
    inspected = json.loads(production.docker("inspect", container))[0]
    limits = inspected["HostConfig"]
    users = production.docker("top", container, "-eo", "uid,pid").splitlines()[1:]

    assert all(line.split()[0] != "0" for line in users)
    assert 0 < limits["Memory"] <= 1024**3
    assert 0 < limits["PidsLimit"] <= 200
    assert limits["CapDrop"] == ["ALL"]
    assert limits["ReadonlyRootfs"] is (service != "postgres")
    assert PASSWORD not in str(inspected)
    assert TOKEN not in str(inspected)
    assert SHELLS_TOKEN not in str(inspected)


def test_the_role_of_the_api_owns_its_database_only(production: Production) -> None:
    """Its role is no superuser; the superuser has no password, so it can log in locally only."""
    [database] = production.containers("postgres")
    question = "SELECT rolname, rolsuper, rolpassword IS NULL FROM pg_authid WHERE rolcanlogin"
    psql = ("psql", "--username=postgres", "--no-align", "--tuples-only", "--dbname=lab")
    roles = production.docker("exec", database, *psql, f"--command={question}")

    assert sorted(roles.splitlines()) == ["lab|f|f", "postgres|t|t"]


def test_a_write_needs_the_token(production: Production) -> None:
    """The API requires the token. The simulator has it; the dashboard, open to all, has not."""
    [dashboard] = production.containers("frontend")
    assert "api_token" not in production.docker("inspect", dashboard)
    with contextlib.closing(Caller(production.port, token="another-token")) as stranger:
        status, _, headers = stranger.call("POST", "/users/?user_id=9001&name=Alice&age=30")

    assert status == 401
    assert headers["X-Request-ID"]
    logs = production.compose("logs", "simulator")
    assert '"outcome": "created"' in logs


def test_the_dashboard_is_behind_the_load_balancer(
    production: Production, caller: Caller, browser: Browser
) -> None:
    """The address alone opens the live histogram; the system page shows the replica's name."""
    health = "/dashboard/_stcore/health"
    wait_until("the dashboard", lambda: caller.call("GET", health)[0] == 200)
    page = browser.new_page()
    open_page(page, f"http://localhost:{production.port}/")
    expect(page.get_by_text("Live, updated")).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible(timeout=15_000)
    assert page.url == f"http://localhost:{production.port}/dashboard/"
    page.get_by_role("link", name="System", exact=True).first.click()
    expect(page.get_by_text(re.compile(r"Replica: api\d+")).first).to_be_visible(timeout=15_000)
    page.close()


def test_names_and_ages_are_not_logged(production: Production, caller: Caller) -> None:
    """The load balancer's log is JSON with the request's id, and without URLs: they hold users."""
    identifier = f"find-me-{time.monotonic_ns()}"
    path = "/users/?user_id=9002&name=Unmistakable&age=77"
    _, _, headers = caller.call("POST", path, **{"X-Request-ID": identifier})
    caller.call("GET", "/users/Unmistakable")
    wait_until("the line", lambda: identifier in production.compose("logs", "--no-color", "edge"))
    lines = production.compose("logs", "--no-color", "edge", "api")
    [edge_line] = [s for s in lines.splitlines() if s.startswith("edge") and identifier in s]
    line = json.loads(edge_line.partition("| ")[2])

    assert headers["X-Request-ID"] == identifier
    assert (line["method"], line["status"], line["server"]) == ("POST", 201, headers["X-Replica"])
    assert any(s.startswith("api") and identifier in s for s in lines.splitlines())
    assert "Unmistakable" not in lines


@pytest.fixture
def metrics(production: Production) -> Iterator[Callable[[str], list[str]]]:
    """Start Prometheus as documented; yield a function that returns a metric's values."""
    docker, port = production.docker, free_port()
    name = f"{docker.PREFIX}-prometheus"
    labels = "--filter label=com.docker.compose."
    production.run_documented(
        "Watch it",
        [
            (labels, f"{labels}project={production.project} {labels}"),
            ("--name prometheus", f"--name {name}"),
            ("bridge prometheus", f"bridge {name}"),
            ("start prometheus", f"start {name}"),
            ("9090:", f"{port}:"),
        ],
    )

    def values(expression: str) -> list[str]:
        query = {"query": expression}
        url = f"http://127.0.0.1:{port}/api/v1/query"
        try:
            found = httpx2.get(url, params=query, trust_env=False).json()["data"]["result"]
        except (httpx2.TransportError, ValueError):
            return []
        return [sample["value"][1] for sample in found]

    yield values
    docker("rm", "--force", "--volumes", name)


def test_prometheus_collects_from_each_replica(metrics: Callable[[str], list[str]]) -> None:
    """Started as documented, it finds three replicas by their addresses."""
    wait_until("three", lambda: metrics('up{job="api"}') == ["1", "1", "1"], 60)

    assert len(metrics("api_build_info")) == 3
