"""The commands of deploy/kubernetes/README.md with a real kubectl, against a stand-in server."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
from facts import change
from kubernetes_api import KINDS, Cluster
from manifests import RENDERINGS, rendered

from tools.processes import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]
PATHS = {kind: f"{group}/{{}}{name}" for group in KINDS for kind, name in KINDS[group].items()}


def path_of(kind: str, name: str) -> str:
    """Return the path of an object of the project in the API of Kubernetes."""
    folder = "" if kind == "Namespace" else "namespaces/microservices/"
    return f"{PATHS[kind].format(folder)}/{name}"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Yield a server that accepts what the newest Kubernetes accepts."""
    if not shutil.which("kubectl") or not shutil.which("openssl") or not shutil.which("sh"):
        pytest.skip("needs kubectl, openssl and sh")
    newest = ".".join(kubernetes_validate.latest_version().split(".")[:2])
    cluster = Cluster(newest)
    yield cluster
    cluster.close()


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Run:
    """Return a function that runs a script whose `kubectl` uses the server."""
    address = f"http://127.0.0.1:{cluster.server_address[1]}"
    (tmp_path / "config").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        f"clusters: [{{name: here, cluster: {{server: '{address}'}}}}]\n"
        "contexts: [{name: here, context: {cluster: here, user: me}}]\n"
        "users: [{name: me, user: {token: made-up}}]\n"
    )
    variables = {"KUBECONFIG": str(tmp_path / "config"), "HOME": str(tmp_path)}

    def run(script: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-euc", script],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def as_json(script: str) -> str:
    """Return a script that sends Secrets as JSON: the stand-in reads no Protocol Buffers."""
    lines = script.replace("\\\n", "").splitlines()
    sent = " --dry-run=client --output json | kubectl create --filename -"
    return "\n".join(line + sent * line.startswith("kubectl create secret") for line in lines)


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_apply_warns_of_nothing_and_changes_nothing_twice(
    cluster: Cluster, shell: Run, rendering: str
) -> None:
    """`kubectl apply --validate=strict` creates every object; a second one changes none.

    kubectl always sends the selector of a PodDisruptionBudget again, so it says `configured`.
    """
    command = f"kubectl apply --validate=strict --kustomize deploy/kubernetes/{rendering}"
    first, second = shell(command), shell(command)
    expected = {path_of(each["kind"], each["metadata"]["name"]) for each in rendered(rendering)}
    changed = [line for line in second.stdout.splitlines() if not line.endswith(" unchanged")]
    budget = path_of("PodDisruptionBudget", "api")

    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, "")
    assert cluster.objects.keys() == expected
    assert len(second.stdout.splitlines()) == len(expected)
    if rendering == "overlays/production":
        selector = cluster.objects[budget]["spec"]["selector"]
        assert changed == ["poddisruptionbudget.policy/api configured"]
        assert cluster.patches == {budget: {"spec": {"selector": selector}}}
    else:
        assert (changed, cluster.patches) == ([], {})


def test_a_mistake_is_refused(checkout: Path, shell: Run) -> None:
    """A misspelled field stops `apply` with an error, which names the field."""
    change(checkout, "deploy/kubernetes/base/api.yaml", "replicas: 1", "replica: 1")
    done = shell("kubectl apply --kustomize deploy/kubernetes/base", checkout)

    assert done.returncode != 0
    assert "'replica' was unexpected" in done.stderr


def test_the_documented_commands_name_a_missing_secret(
    cluster: Cluster, shell: Run, checkout: Path
) -> None:
    """Without one of three Secrets nothing is applied; with all of them, production is."""
    readme = (ROOT / "deploy/kubernetes/README.md").read_text(encoding="utf-8")
    section = readme.partition("## Production")[2]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.M | re.S)
    _, deploy, registry = map(as_json, blocks[:3])
    certificate = next(line for line in deploy.splitlines() if "secret tls" in line)
    deployment = path_of("Deployment", "api")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -keyout key.pem -out chain.pem"
    assert shell(make, checkout).returncode == 0

    missing = shell(deploy.replace(certificate, ""), checkout)
    assert missing.returncode != 0
    assert 'secrets "certificate" not found' in missing.stderr
    assert deployment not in cluster.objects

    complete = shell(f"{certificate}\n{deploy[deploy.index('kubectl get') :]}", checkout)
    assert (complete.returncode, complete.stderr) == (0, "")
    assert deployment in cluster.objects

    account = path_of("ServiceAccount", "default")
    cluster.objects[account] = {"kind": "ServiceAccount", "apiVersion": "v1"}
    cluster.objects[account]["metadata"] = {"name": "default", "namespace": "microservices"}
    done = shell(registry, checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.patches[account] == {"imagePullSecrets": [{"name": "registry"}]}
    secret = cluster.objects[path_of("Secret", "registry")]
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
