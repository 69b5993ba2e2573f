"""The manifests: what Kubernetes accepts, what they promise, and what they share with others."""

import json
import re
import subprocess
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from conftest import service_python
from facts import FOLDERS, disagreements
from manifests import (
    RENDERINGS,
    WORKLOADS,
    Arrow,
    Manifest,
    arrows,
    decoded,
    of_kind,
    picture,
    pod_of,
    render,
)

from tools.processes import ROOT

KUBERNETES_VERSION = "1.37"  # the newest minor version when this was written
SECRETS = {"API_TOKEN": "a-token-of-a-test", "DATABASE_URL": "postgresql://lab:lab@database/lab"}


@cache
def rendered(name: str) -> list[Manifest]:
    return render(ROOT / "deploy/kubernetes" / name)


@pytest.fixture(params=RENDERINGS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """Return what Kustomize makes of the base, and of each overlay."""
    return deepcopy(rendered(request.param))


# ---------------------------------------------------------------------------------- the schemas


def validate(manifest: Manifest) -> str:
    return str(kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True))


def test_kubernetes_accepts_the_manifests(manifests: list[Manifest]) -> None:
    """Each manifest is valid by the strict schemas: no unknown field, no value of another type."""
    assert {validate(manifest) for manifest in manifests} == {KUBERNETES_VERSION}
    assert len(manifests) >= 9


def test_the_schemas_are_current() -> None:
    """The schemas are those of the newest Kubernetes that the locked package knows."""
    assert kubernetes_validate.latest_version().startswith(KUBERNETES_VERSION + ".")


MISTAKES: list[Callable[[dict[str, Any]], object]] = [
    lambda spec: spec.update(replicas="two"),
    lambda spec: spec["template"]["spec"].update(containerz=[]),
    lambda spec: spec.pop("selector"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=["a type", "a misspelt field", "one too few"])
def test_what_the_schemas_catch(mistake: Callable[[dict[str, Any]], object]) -> None:
    """One wrong type, unknown field or missing field makes a manifest invalid."""
    api = deepcopy(of_kind(rendered("base"), "Deployment")["api"])
    mistake(api["spec"])

    with pytest.raises(kubernetes_validate.ValidationError):
        validate(api)


# ------------------------------------------------------------------------------------ the pods


def test_pods_are_what_the_strictest_standard_admits(manifests: list[Manifest]) -> None:
    """The namespace enforces Pod Security `restricted`; every pod is within it, and reads only."""
    labels = of_kind(manifests, "Namespace")["microservices"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in of_kind(manifests, *WORKLOADS).values():
        pod = pod_of(workload)
        context = pod["securityContext"]
        assert workload["metadata"]["namespace"] == "microservices"
        assert (context["runAsNonRoot"], context["seccompProfile"]["type"]) == (
            True,
            "RuntimeDefault",
        )
        assert context["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        assert all("emptyDir" in volume for volume in pod.get("volumes", ()))
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in pod["containers"][0].get("ports", ()))


def test_pods_hold_no_more_than_they_need(manifests: list[Manifest]) -> None:
    """No pod has a token of the cluster or variables named after services; all are bounded."""
    for workload in of_kind(manifests, *WORKLOADS).values():
        pod = pod_of(workload)
        resources = pod["containers"][0]["resources"]
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}


def test_probes_mean_what_they_say(manifests: list[Manifest]) -> None:
    """Whether the API lives is asked of /health, which asks nobody; whether it is ready, of /ready.

    Readiness waits for the API's own verdict on its store, which has a deadline.
    """
    api = pod_of(of_kind(manifests, "Deployment")["api"])["containers"][0]
    engines = (ROOT / "api/engines.py").read_text(encoding="utf-8")
    deadline_seconds = float(re.findall(r"^DEADLINE_SECONDS: Final = ([\d.]+)", engines, re.M)[0])

    assert api["startupProbe"]["httpGet"]["path"] == "/health"
    assert api["livenessProbe"]["httpGet"]["path"] == "/health"
    assert api["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert api["readinessProbe"]["timeoutSeconds"] > deadline_seconds


def test_a_pod_has_time_to_drain(manifests: list[Manifest]) -> None:
    """Kubernetes kills the API later than it can take to drain and to finish what is in flight."""
    pod = pod_of(of_kind(manifests, "Deployment")["api"])
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    dockerfile = (ROOT / "api/Dockerfile").read_text(encoding="utf-8")
    in_flight_seconds = int(re.findall(r'"--timeout-graceful-shutdown", "(\d+)"', dockerfile)[0])
    drain_seconds = int(variables["DRAIN_SECONDS"] or 0)
    probe = pod["containers"][0]["readinessProbe"]

    assert drain_seconds > probe["periodSeconds"] * probe["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] > drain_seconds + in_flight_seconds


def test_the_store_in_memory_is_in_one_pod(manifests: list[Manifest]) -> None:
    """Without a database there is one API and never two at once; with one, at least two."""
    api = of_kind(manifests, "Deployment")["api"]["spec"]
    variables = {each["name"] for each in pod_of({"spec": api})["containers"][0]["env"]}
    scaler = of_kind(manifests, "HorizontalPodAutoscaler").get("api")
    replicas = scaler["spec"]["minReplicas"] if scaler else api["replicas"]

    if "DATABASE_URL" in variables:
        assert replicas >= 2
        assert api["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    else:
        assert (replicas, api["strategy"], scaler) == (1, {"type": "Recreate"}, None)


def expanded(variables: list[dict[str, Any]]) -> dict[str, str]:
    """Return a container's variables as the kubelet sets them: in order, earlier ones filled in."""
    done: dict[str, str] = {}
    for each in variables:
        if "value" not in each:
            source = each["valueFrom"]
            value = SECRETS[each["name"]] if "secretKeyRef" in source else "10.0.0.7"
        else:
            value = re.sub(r"\$\((\w+)\)", lambda m: done.get(m[1], m[0]), each["value"])
        done[each["name"]] = value
    return done


def test_the_settings_take_the_variables(manifests: list[Manifest]) -> None:
    """Every variable is one that the service reads, with a value that it takes."""
    for name, folder in FOLDERS.items():
        container = pod_of(of_kind(manifests, "Deployment")[name])["containers"][0]
        variables = expanded(container["env"])
        text = (ROOT / folder / "settings.py").read_text(encoding="utf-8")
        servers = {"UVICORN_TIMEOUT_KEEP_ALIVE", "STREAMLIT_SERVER_ALLOWED_HOSTS"}
        assert variables.keys() <= {*re.findall(r'"([A-Z][A-Z_]+)"', text), "POD_IP", *servers}

        program = (
            "import json, settings, sys\nprint(settings.read_settings(json.loads(sys.argv[1])))"
        )
        command = [service_python(folder), "-c", program, json.dumps(variables)]
        subprocess.run(command, cwd=ROOT / folder, check=True)


def public_names(manifests: list[Manifest], service: str) -> list[str]:
    """Return the names at the edge that lead to a service."""
    return [
        rule["host"]
        for ingress in of_kind(manifests, "Ingress").values()
        for rule in ingress["spec"]["rules"]
        if rule["http"]["paths"][0]["backend"]["service"]["name"] == service
    ]


def test_the_api_may_be_called_by_its_names(manifests: list[Manifest]) -> None:
    """The API answers by its Service's name, its pod's address, and the name at the edge."""
    api = pod_of(of_kind(manifests, "Deployment")["api"])["containers"][0]
    hosts = expanded(api["env"])["ALLOWED_HOSTS"].split(",")

    assert hosts == ["api", "10.0.0.7", *public_names(manifests, "api")]


def test_the_dashboard_may_be_opened_by_its_name(manifests: list[Manifest]) -> None:
    """Where the edge has a name for the dashboard, it answers by that one, and on this machine."""
    frontend = pod_of(of_kind(manifests, "Deployment")["frontend"])["containers"][0]
    hosts = expanded(frontend["env"]).get("STREAMLIT_SERVER_ALLOWED_HOSTS", "localhost").split()

    assert hosts == ["localhost", *public_names(manifests, "frontend")]


def test_secrets_are_secrets(manifests: list[Manifest]) -> None:
    """Token, password and database address come from Secrets; over a database all must be there.

    The dashboard has none of them: whoever can open it could otherwise write.
    """
    assert "secret" not in json.dumps(of_kind(manifests, "Deployment")["frontend"]).lower()
    durable = "DATABASE_URL" in json.dumps(manifests)
    for name, workload in of_kind(manifests, *WORKLOADS).items():
        for each in pod_of(workload)["containers"][0].get("env", ()):
            if each["name"] in ("API_TOKEN", "POSTGRES_PASSWORD", "DATABASE_URL"):
                reference = each["valueFrom"]["secretKeyRef"]
                assert reference["key"] == each["name"]
                assert not (durable and name == "api" and reference.get("optional"))


def test_the_trial_database_is_the_one_that_the_api_is_told() -> None:
    """User, password, host and database in the trial's DATABASE_URL are the database's own."""
    manifests = rendered("overlays/local")
    database = pod_of(of_kind(manifests, "StatefulSet")["database"])["containers"][0]
    user, name = (
        next(each["value"] for each in database["env"] if each["name"] == f"POSTGRES_{part}")
        for part in ("USER", "DB")
    )
    (secret,) = (
        decoded(each)
        for each in of_kind(manifests, "Secret").values()
        if "DATABASE_URL" in each["data"]
    )

    password = secret["POSTGRES_PASSWORD"]
    assert secret["DATABASE_URL"] == f"postgresql://{user}:{password}@database/{name}"


# -------------------------------------------------------------------------------- in production


def test_production_outlives_a_node() -> None:
    """Three APIs and more, spread over nodes, of which maintenance takes one at a time."""
    manifests = rendered("overlays/production")
    pod = pod_of(of_kind(manifests, "Deployment")["api"])
    (spread,) = pod["topologySpreadConstraints"]
    budget = of_kind(manifests, "PodDisruptionBudget")["api"]["spec"]
    scaler = of_kind(manifests, "HorizontalPodAutoscaler")["api"]["spec"]

    assert "replicas" not in of_kind(manifests, "Deployment")["api"]["spec"]
    assert scaler["minReplicas"] == 3
    assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)
    assert budget["maxUnavailable"] == 1
    labels = of_kind(manifests, "Deployment")["api"]["spec"]["template"]["metadata"]["labels"]
    for selector in (spread["labelSelector"], budget["selector"]):
        assert selector["matchLabels"].items() <= labels.items()


def test_all_pods_together_fit_the_database() -> None:
    """As many APIs as there can be take fewer connections than PostgreSQL has by default."""
    sql = (ROOT / "api/sql.py").read_text(encoding="utf-8")
    listings = int(re.findall(r"^MAX_LISTINGS: Final = (\d+)", sql, re.M)[0])
    manifests = rendered("overlays/production")
    scaler = of_kind(manifests, "HorizontalPodAutoscaler")["api"]["spec"]

    assert (scaler["maxReplicas"] + 1) * (2 + listings) < 100  # one more during an update


def test_the_edge_shows_what_is_for_users() -> None:
    """From outside one reaches every call about users, and neither the probes nor the metrics."""
    rules = of_kind(rendered("overlays/production"), "Ingress")["edge"]["spec"]["rules"]
    paths = [path for rule in rules for path in rule["http"]["paths"] if "api" in rule["host"]]
    contract = json.loads((ROOT / "contract/openapi.json").read_text(encoding="utf-8"))["paths"]
    for path, verbs in contract.items():
        probe = any(verb["tags"] == ["probes"] for verb in verbs.values())
        open_ = any(
            path == each["path"]
            or (each["pathType"] == "Prefix" and path.startswith(each["path"] + "/"))
            for each in paths
        )
        assert open_ != probe, path


# ---------------------------------------------------------------------------- who speaks to whom


def names_for(callers: set[str]) -> set[Arrow]:
    """Return the arrows of those who look up names: by UDP, and what is too long for it by TCP."""
    return {(caller, "dns", port) for caller in callers for port in (53, "53/UDP")}


def check_policies(root: Path) -> None:
    """Assert that production's policies are the picture, and names for those who begin an arrow."""
    manifests = render(root / "deploy/kubernetes/overlays/production")
    drawn = picture(root)
    pods = of_kind(manifests, *WORKLOADS)

    assert len(drawn) >= 6
    assert arrows(manifests) == drawn | names_for({caller for caller, _, _ in drawn} & pods.keys())


def test_the_policies_are_the_picture() -> None:
    """Production's policies open the arrows of the picture, and names for those who begin one."""
    check_policies(ROOT)


BASE, PRODUCTION = (
    "deploy/kubernetes/base/network.yaml",
    "deploy/kubernetes/overlays/production/network.yaml",
)
KUBE_DNS = "          podSelector:\n            matchLabels: { k8s-app: kube-dns }\n"
PROMETHEUS = (
    "          podSelector:\n            matchLabels: { app.kubernetes.io/name: prometheus }\n"
)
CALLERS = "values: [simulator, frontend] }\n  policyTypes: "
WRONG_POLICIES = {
    "the whole world for the database": (PRODUCTION, "192.0.2.0/24", "0.0.0.0/0"),
    "the database by UDP": (PRODUCTION, "port: 5432 }", "port: 5432, protocol: UDP }"),
    "more than one port": (PRODUCTION, "port: 5432 }", "port: 5432, endPort: 5440 }"),
    "names by TCP alone": (BASE, "{ port: 53, protocol: UDP }, ", ""),
    "all of kube-system for names": (BASE, KUBE_DNS, ""),
    "all of monitoring for Prometheus": (PRODUCTION, PROMETHEUS, ""),
    "rules without effect": (BASE, CALLERS + "[Egress]", CALLERS + "[Ingress]"),
}


@pytest.mark.parametrize("mistake", WRONG_POLICIES)
def test_a_policy_that_opens_something_else(checkout: Path, mistake: str) -> None:
    """A policy that opens more than the picture, or less, does not go unnoticed."""
    change(checkout, *WRONG_POLICIES[mistake])

    with pytest.raises(AssertionError):
        check_policies(checkout)


def change(checkout: Path, file: str, was: str, becomes: str) -> None:
    """Change one place of a checkout."""
    text = (checkout / file).read_text(encoding="utf-8")
    assert was in text
    (checkout / file).write_text(text.replace(was, becomes, 1), encoding="utf-8")


def test_overlays_open_no_more_than_the_picture(manifests: list[Manifest]) -> None:
    """Everything is closed but for arrows of the picture, in the base and in each overlay."""
    nobody = of_kind(manifests, "NetworkPolicy")["nobody"]["spec"]
    asking = {arrow for arrow in arrows(manifests) if arrow[1] == "dns"}
    opened = arrows(manifests) - asking
    pods = of_kind(manifests, *WORKLOADS)

    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert opened <= picture(ROOT)
    assert {("simulator", "api", 8000), ("frontend", "api", 8000)} <= opened
    assert asking == names_for({caller for caller, _, _ in opened} & pods.keys())


# ------------------------------------------------------------------------- facts that live twice


def test_what_is_told_twice_is_told_alike() -> None:
    """Ports, images, users, memory, addresses and versions are the same in every file."""
    assert disagreements(ROOT) == {}


INGRESS = "deploy/kubernetes/overlays/production/ingress.yaml"
READINESS = "readinessProbe:\n            httpGet: { path: /_stcore/health, port: http }"
ONE_PLACE = [
    ("docker-compose.yml", "-8000}:8000", "-8000}:8001"),
    ("docker-compose.yml", "API_BASE_URL=http://api:8000", "API_BASE_URL=http://api:8001"),
    ("docker-compose.yml", "-8501}:8501", "-8501}:8502"),
    ("api/Dockerfile", "EXPOSE 8000", "EXPOSE 8001"),
    ("api/Dockerfile", '"--port", "8000"', '"--port", "8001"'),
    ("frontend/Dockerfile", "localhost:8501", "localhost:8502"),
    ("frontend/.streamlit/config.toml", "port = 8501", "port = 8502"),
    ("deploy/kubernetes/base/api.yaml", "containerPort: 8000", "containerPort: 8001"),
    ("deploy/kubernetes/base/api.yaml", "port: 8000, targetPort", "port: 80, targetPort"),
    ("deploy/kubernetes/base/simulator.yaml", "http://api:8000", "http://api:8001"),
    ("deploy/kubernetes/base/frontend.yaml", "http://api:8000", "http://api:8001"),
    ("deploy/kubernetes/base/frontend.yaml", "containerPort: 8501", "containerPort: 8502"),
    (
        "deploy/kubernetes/overlays/local/database.yaml",
        "containerPort: 5432",
        "containerPort: 5433",
    ),
    ("deploy/kubernetes/overlays/production/network.yaml", "port: 5432", "port: 5433"),
    ("deploy/kubernetes/base/api.yaml", "path: /ready, port: http", "path: /ready, port: 8001"),
    ("deploy/kubernetes/base/frontend.yaml", READINESS, READINESS.replace("http }", "8502 }")),
    (INGRESS, "name: frontend, port: { name: http }", "name: frontend, port: { number: 80 }"),
    (INGRESS, "name: api, port: { name: http }", "name: api, port: { number: 80 }"),
    ("deploy/edge/haproxy.cfg", " api:8000", " api:8001"),
    ("deploy/edge/haproxy.cfg", " frontend:8501", " frontend:8502"),
    ("deploy/edge/haproxy.cfg", "bind :8000", "bind :8001"),
    ("deploy/edge/haproxy.cfg", "bind :8080", "bind :8081"),
    (
        "deploy/docker-compose.prod.yml",
        "API_BASE_URL=http://edge:8000",
        "API_BASE_URL=http://edge:8001",
    ),
    ("deploy/docker-compose.prod.yml", "API_URL=http://edge:8000", "API_URL=http://edge:8001"),
    ("deploy/docker-compose.prod.yml", "main:app --host", "main:app --workers 2 --host"),
    ("deploy/observability/prometheus-compose.yml", "port: 8000", "port: 8001"),
    ("deploy/docker-compose.prod.yml", "localhost:8501", "localhost:8502"),
    ("deploy/docker-compose.prod.yml", "8080}:8080", "8080}:8081"),
    ("deploy/docker-compose.prod.yml", "@postgres/", "@postgres:5433/"),
    ("deploy/observability/prometheus.yml", '["localhost:8000"]', '["localhost:8001"]'),
    ("deploy/observability/prometheus-kubernetes.yml", "port: 8000", "port: 8001"),
    (
        "data_ingestion_simulator/settings.py",
        'str = "http://localhost:8000',
        'str = "http://localhost:80',
    ),
    ("frontend/settings.py", 'str = "http://localhost:8000', 'str = "http://localhost:80'),
    ("docs/architecture.md", "simulator -->|8000|", "simulator -->|8001|"),
    ("docker-compose.yml", "mem_limit: 768m", "mem_limit: 769m"),
    ("docker-compose.yml", "image: user-api", "image: users-api"),
    ("frontend/Dockerfile", "USER 10001", "USER 10002"),
    ("api/main.py", 'VERSION = "', 'VERSION = "1'),
    ("deploy/postgres.env", "lab:lab@", "lab:lob@"),
]


@pytest.mark.parametrize(("file", "was", "becomes"), ONE_PLACE)
def test_one_place_that_says_something_else(
    checkout: Path, file: str, was: str, becomes: str
) -> None:
    """A port, name, size or version changed in one place only does not go unnoticed."""
    change(checkout, file, was, becomes)

    assert disagreements(checkout)


# ------------------------------------------------------------------------------------ the README


def test_from_a_clone_to_the_histogram_in_five_commands() -> None:
    """At most five commands, which name images, a folder, a Service and a port that are there."""
    readme = (ROOT / "deploy/kubernetes/README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```bash\n(.*?)^```", readme, re.M | re.S)[0].strip().splitlines()
    manifests = rendered("overlays/local")
    images = {
        pod_of(workload)["containers"][0]["image"]
        for workload in of_kind(manifests, "Deployment").values()
    }
    _, _, load, apply, forward = commands
    namespace, service, port = re.findall(r"--namespace (\S+) .*service/(\S+) (\d+)", forward)[0]

    assert len(commands) <= 5
    assert not [command for command in commands if re.search(r"&&|;|\|", command)]
    assert images == set(load.split()[3:])
    assert apply.split()[-1] == "deploy/kubernetes/overlays/local"
    found = of_kind(manifests, "Service")[service]
    assert found["metadata"]["namespace"] == namespace
    assert found["spec"]["ports"][0]["port"] == int(port)


def test_the_readme_names_what_is_yours_to_say() -> None:
    """Each file with a name or an address that is made up is named, and so is a batch's size."""
    section = (
        (ROOT / "deploy/kubernetes/README.md")
        .read_text(encoding="utf-8")
        .partition("## Production")[2]
    )
    main = (ROOT / "api/main.py").read_text(encoding="utf-8")
    mebibytes = re.findall(r"^MAX_BATCH_BYTES = (\d+) \* 1024 \* 1024$", main, re.M)[0]
    made_up = {
        path.name
        for path in (ROOT / "deploy/kubernetes/overlays/production").iterdir()
        if re.search(r"example\.org|192\.0\.2", path.read_text(encoding="utf-8"))
    }

    assert len(made_up) >= 5
    assert {name for name in made_up if f"`{name}`" not in section} == set()
    assert f"proxy-body-size: {mebibytes}m" in section
