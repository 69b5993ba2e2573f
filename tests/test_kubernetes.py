"""The Kubernetes manifests: valid by the schemas, safe, complete, and made for failing nodes."""

import json
import re
import subprocess
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import kubernetes_validate
import pytest
from conftest import service_python
from facts import FOLDERS, constant
from manifests import WORKLOADS, Manifest, decoded, of_kind, pod_of, rendered

from tools.processes import ROOT

VERSIONS = ("1.35", "1.36", "1.37")  # the three newest minor versions, which are maintained
SECRETS = {"API_TOKEN": "a-token-of-a-test", "DATABASE_URL": "postgresql://lab:lab@database/lab"}


# ---------------------------------------------------------------------------------- the schemas


def validate(manifest: Manifest, version: str) -> str:
    return str(kubernetes_validate.validate(manifest, version, strict=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_manifests(manifests: list[Manifest], version: str) -> None:
    """Each manifest is valid by the strict schemas: no unknown field, no value of another type."""
    assert {validate(manifest, version) for manifest in manifests} == {version}
    assert len(manifests) >= 9


def test_the_schemas_are_current() -> None:
    """The last one is the newest Kubernetes that the locked package knows; the README names all."""
    readme = (ROOT / "deploy/kubernetes/README.md").read_text(encoding="utf-8")
    first, second, last = VERSIONS

    assert kubernetes_validate.latest_version().startswith(last + ".")
    assert f"schemas of Kubernetes {first}, {second} and {last}" in readme


MISTAKES: list[Callable[[dict[str, Any]], object]] = [
    lambda spec: spec.update(replicas="two"),
    lambda spec: spec["template"]["spec"].update(containerz=[]),
    lambda spec: spec.pop("selector"),
]


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=["a wrong type", "an unknown field", "a missing field"]
)
def test_the_schemas_find_a_mistake(mistake: Callable[[dict[str, Any]], object]) -> None:
    """One wrong type, unknown field or missing field makes a manifest invalid."""
    api = deepcopy(of_kind(rendered("base"), "Deployment")["api"])
    mistake(api["spec"])

    with pytest.raises(kubernetes_validate.ValidationError):
        validate(api, VERSIONS[-1])


def test_every_object_belongs_to_the_project(manifests: list[Manifest]) -> None:
    """Each object has the label `part-of`, so that one command finds all of them."""
    part_of = "app.kubernetes.io/part-of"
    for manifest in manifests:
        assert manifest["metadata"]["labels"][part_of] == "microservices-lab", manifest["kind"]
    for workload in of_kind(manifests, *WORKLOADS).values():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert labels[part_of] == "microservices-lab"


# ------------------------------------------------------------------------------------ the pods


def test_pods_meet_the_strictest_standard(manifests: list[Manifest]) -> None:
    """The namespace enforces Pod Security `restricted`; every pod meets it, read-only root."""
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


def test_pods_have_no_more_than_they_need(manifests: list[Manifest]) -> None:
    """No pod has a service account token or variables of services; all have a memory limit."""
    for workload in of_kind(manifests, *WORKLOADS).values():
        pod = pod_of(workload)
        resources = pod["containers"][0]["resources"]
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}


def test_the_probes_of_the_api(manifests: list[Manifest]) -> None:
    """Liveness is /health, which does not use the store; readiness is /ready, which does.

    The readiness probe waits longer than the API waits for its store.
    """
    api = pod_of(of_kind(manifests, "Deployment")["api"])["containers"][0]
    deadline_seconds = float(constant(ROOT, "api", "DEADLINE_SECONDS"))

    assert api["startupProbe"]["httpGet"]["path"] == "/health"
    assert api["livenessProbe"]["httpGet"]["path"] == "/health"
    assert api["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert api["readinessProbe"]["timeoutSeconds"] > deadline_seconds


def test_a_pod_has_time_to_drain(manifests: list[Manifest]) -> None:
    """Kubernetes kills the API only after it has drained and finished the requests in flight.

    With several APIs it drains until the readiness probe has failed. A single API does not drain:
    no other one could serve the requests.
    """
    pod = pod_of(of_kind(manifests, "Deployment")["api"])
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    dockerfile = (ROOT / "api/Dockerfile").read_text(encoding="utf-8")
    in_flight_seconds = int(re.findall(r'"--timeout-graceful-shutdown", "(\d+)"', dockerfile)[0])
    drain_seconds = int(variables.get("DRAIN_SECONDS") or 0)
    probe = pod["containers"][0]["readinessProbe"]

    if "DATABASE_URL" in variables:
        assert drain_seconds > probe["periodSeconds"] * probe["failureThreshold"]
    else:
        assert drain_seconds == 0
    assert pod["terminationGracePeriodSeconds"] > drain_seconds + in_flight_seconds


def test_the_dashboard_serves_until_every_node_knows_that_it_ends(
    manifests: list[Manifest],
) -> None:
    """Its pod sleeps before SIGTERM, and then still has time to stop."""
    pod = pod_of(of_kind(manifests, "Deployment")["frontend"])
    sleep_seconds = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert sleep_seconds == 5
    assert pod["terminationGracePeriodSeconds"] >= sleep_seconds + 10


def test_the_memory_store_has_one_pod(manifests: list[Manifest]) -> None:
    """Without a database there is one API, never two at the same time; with one, at least two."""
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
    """Return a container's variables as the kubelet sets them: in order, earlier ones expanded."""
    done: dict[str, str] = {}
    for each in variables:
        if "value" not in each:
            source = each["valueFrom"]
            value = SECRETS[each["name"]] if "secretKeyRef" in source else "10.0.0.7"
        else:
            value = re.sub(r"\$\((\w+)\)", lambda m: done.get(m[1], m[0]), each["value"])
        done[each["name"]] = value
    return done


def test_the_settings_accept_the_variables(manifests: list[Manifest]) -> None:
    """The service reads every variable and accepts its value."""
    for name, folder in FOLDERS.items():
        container = pod_of(of_kind(manifests, "Deployment")[name])["containers"][0]
        variables = expanded(container["env"])
        text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
        servers = {"UVICORN_TIMEOUT_KEEP_ALIVE"}
        documented = set(re.findall(r"^\| `([A-Z][A-Z_]+)` ", text, re.M))
        assert variables.keys() <= {*documented, "POD_IP", *servers}

        program = (
            "import json, settings, sys\nprint(settings.read_settings(json.loads(sys.argv[1])))"
        )
        command = [service_python(folder), "-c", program, json.dumps(variables)]
        subprocess.run(command, cwd=ROOT / folder, check=True)


def public_names(manifests: list[Manifest], service: str) -> list[str]:
    """Return the public host names of a service."""
    return [
        rule["host"]
        for ingress in of_kind(manifests, "Ingress").values()
        for rule in ingress["spec"]["rules"]
        if rule["http"]["paths"][0]["backend"]["service"]["name"] == service
    ]


def test_the_api_accepts_its_host_names(manifests: list[Manifest]) -> None:
    """The API accepts its Service's name, its pod's address, and its public address."""
    api = pod_of(of_kind(manifests, "Deployment")["api"])["containers"][0]
    variables = expanded(api["env"])
    urls = [f"https://{name}" for name in public_names(manifests, "api")]

    assert variables["ALLOWED_HOSTS"] == "api,10.0.0.7"
    assert variables.get("PUBLIC_URL", "") == ",".join(urls)


def test_the_dashboard_accepts_its_host_names(manifests: list[Manifest]) -> None:
    """The dashboard accepts its public address if it has one."""
    frontend = pod_of(of_kind(manifests, "Deployment")["frontend"])["containers"][0]
    addresses = expanded(frontend["env"]).get("PUBLIC_URL", "").split()

    assert addresses == [f"https://{name}" for name in public_names(manifests, "frontend")]


def test_secrets_are_secrets(manifests: list[Manifest]) -> None:
    """Token, password and database URL come from Secrets; with a database they are required.

    The dashboard has none of them, because every visitor could then write.
    """
    assert "secret" not in json.dumps(of_kind(manifests, "Deployment")["frontend"]).lower()
    durable = "DATABASE_URL" in json.dumps(manifests)
    for name, workload in of_kind(manifests, *WORKLOADS).items():
        for each in pod_of(workload)["containers"][0].get("env", ()):
            if each["name"] in ("API_TOKEN", "POSTGRES_PASSWORD", "DATABASE_URL"):
                reference = each["valueFrom"]["secretKeyRef"]
                assert reference["key"] == each["name"]
                assert not (durable and name == "api" and reference.get("optional"))


def test_the_database_url_of_the_trial_is_right() -> None:
    """User, password, host and database in the trial's DATABASE_URL are those of its database."""
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


def millicores(quantity: str) -> int:
    """Return the processor time of a quantity such as `100m`."""
    return int(quantity.removesuffix("m")) if quantity.endswith("m") else 1000 * int(quantity)


def test_the_trial_fits_a_node_with_two_cores() -> None:
    """All pods, and those of an update, ask for at most half of it: Kubernetes needs the other."""
    asked = 0
    for workload in of_kind(rendered("overlays/local"), *WORKLOADS).values():
        update = workload["spec"].get("strategy", {}).get("rollingUpdate", {"maxSurge": 0})
        pods = workload["spec"]["replicas"] + update["maxSurge"]
        asked += pods * millicores(
            pod_of(workload)["containers"][0]["resources"]["requests"]["cpu"]
        )

    assert asked <= 1000


# ------------------------------------------------------------------------------------ the README


def test_from_a_clone_to_the_histogram_in_six_commands() -> None:
    """The README's commands name images, a folder, a Service and a port that exist."""
    readme = (ROOT / "deploy/kubernetes/README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```bash\n(.*?)^```", readme, re.M | re.S)[0].strip().splitlines()
    manifests = rendered("overlays/local")
    images = {
        pod_of(workload)["containers"][0]["image"]
        for workload in of_kind(manifests, "Deployment").values()
    }
    _, _, load, apply, rollout, forward = commands
    namespace, service, port = re.findall(r"--namespace (\S+) .*service/(\S+) (\d+)", forward)[0]

    assert not [command for command in commands if re.search(r"&&|;|\|", command)]
    assert images == set(load.split()[3:])
    assert apply.split()[-1] == "deploy/kubernetes/overlays/local"
    found = of_kind(manifests, "Service")[service]
    assert found["metadata"]["namespace"] == namespace
    assert f"--namespace {namespace} deployment/{service} " in rollout
    assert found["spec"]["ports"][0]["port"] == int(port)
    assert "--address 127.0.0.1" in forward


def test_the_readme_names_the_files_to_change() -> None:
    """It names each file with an example name or address, and the size of a batch."""
    readme = (ROOT / "deploy/kubernetes/README.md").read_text(encoding="utf-8")
    section = readme.partition("## Production")[2]
    batch_bytes = constant(ROOT, "api", "MAX_BATCH_BYTES")
    mebibytes = re.fullmatch(r"(\d+) \* 1024 \* 1024", batch_bytes)
    examples = {
        path.name
        for path in (ROOT / "deploy/kubernetes/overlays/production").iterdir()
        if re.search(r"example\.org|192\.0\.2", path.read_text(encoding="utf-8"))
    }

    assert len(examples) >= 5
    assert {name for name in examples if f"`{name}`" not in section} == set()
    assert mebibytes, batch_bytes
    assert f"proxy-body-size: {mebibytes[1]}m" in section
