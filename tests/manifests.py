"""Kubernetes manifests as Kustomize renders them, and what each place says about the same fact."""

import base64
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

RENDERINGS = ("base", "overlays/local", "overlays/production")
OUTSIDE = {"ingress": "edge", "monitoring": "prometheus", "kube-system": "dns"}  # by namespace
FOLDERS = {"api": "api", "simulator": "data_ingestion_simulator", "frontend": "frontend"}
WORKLOADS = ("Deployment", "StatefulSet")

Manifest = dict[str, Any]
Arrow = tuple[str, str, int]  # caller, called, port
Claim = tuple[str, str, object]  # a fact, the place that tells it, its value there


def render(folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k` would send to a cluster; skip where there is no kubectl."""
    if not shutil.which("kubectl"):
        pytest.skip("there is no `kubectl` on this machine, whose Kustomize renders the manifests")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """Return the manifests of some kinds by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in kinds}


def pod_of(workload: Manifest) -> dict[str, Any]:
    """Return the pod that a workload makes, which in this project has one container."""
    pod: dict[str, Any] = workload["spec"]["template"]["spec"]
    assert len(pod["containers"]) == 1
    return pod


def port_number(container: dict[str, Any], port: str | int) -> int:
    """Return the number behind a port's name, as Kubernetes looks it up in the container."""
    named = {each["name"]: each["containerPort"] for each in container["ports"]}
    return int(named.get(port, port))


def decoded(secret: Manifest) -> dict[str, str]:
    """Return what a Secret holds."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


# --------------------------------------------------------------------------- who may speak to whom


def picture(root: Path) -> set[Arrow]:
    """Return the arrows of the architecture's picture."""
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"^ +(\w+) -->\|(\d+)\| (\w+)$", text, re.M)
    return {(caller, called, int(port)) for caller, port, called in found}


def arrows(manifests: list[Manifest]) -> set[Arrow]:
    """Return the arrows that the policies open; fail if only one end of one is open."""
    policies = of_kind(manifests, "NetworkPolicy").values()
    pods = of_kind(manifests, *WORKLOADS)
    leaving, arriving = set(), set()
    for policy in policies:
        for name in _selected(policy["spec"]["podSelector"], pods):
            for rule in policy["spec"].get("egress", ()):
                leaving |= {(name, *end) for end in _ends(rule, "to", pods, None)}
            for rule in policy["spec"].get("ingress", ()):
                arriving |= {
                    (caller, name, port) for caller, port in _ends(rule, "from", pods, name)
                }
    half_open = {(*end,) for end in leaving - arriving if end[1] in pods} | {
        (*end,) for end in arriving - leaving if end[0] in pods
    }
    assert not half_open, f"open at one end only: {half_open}"
    return leaving | arriving


def _ends(
    rule: dict[str, Any], side: str, pods: dict[str, Manifest], called: str | None
) -> set[tuple[str, int]]:
    """Return who is named on one side of a rule, each with the port that is called."""
    assert rule[side], "a rule without peers is open to everybody"
    assert rule["ports"], "a rule without ports is open on all of them"
    found = set()
    for peer in rule[side]:
        for name in _peers(peer, pods):
            for each in rule["ports"]:
                target = pods.get(called or name)
                port = (
                    port_number(pod_of(target)["containers"][0], each["port"])
                    if target
                    else each["port"]
                )
                found.add((name, port))
    return found


def _peers(peer: dict[str, Any], pods: dict[str, Manifest]) -> list[str]:
    if "ipBlock" in peer:
        return ["database"]  # the only neighbour that is known by its address
    if "namespaceSelector" in peer:
        return [OUTSIDE[peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]]]
    return _selected(peer["podSelector"], pods)


def _selected(selector: dict[str, Any], pods: dict[str, Manifest]) -> list[str]:
    """Return the workloads whose pods have the labels that a selector asks for."""
    wanted = {key: [value] for key, value in selector.get("matchLabels", {}).items()}
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        wanted[expression["key"]] = expression["values"]
    labels = {name: pod["spec"]["template"]["metadata"]["labels"] for name, pod in pods.items()}
    return [
        name
        for name, has in labels.items()
        if all(has.get(key) in values for key, values in wanted.items())
    ]


# ------------------------------------------------------------------------- facts that live twice


def disagreements(root: Path) -> dict[str, dict[str, object]]:
    """Return, for each fact that is not the same everywhere, what each place of a checkout says."""
    told: dict[str, dict[str, object]] = defaultdict(dict)
    for fact, place, value in claims(root):
        told[fact][place] = value
    return {fact: places for fact, places in told.items() if len(set(places.values())) > 1}


def claims(root: Path) -> Iterator[Claim]:
    """Yield every fact that more than one file holds, wherever it is told."""
    compose = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    for name, folder in FOLDERS.items():
        yield from _image_claims(name, (root / folder / "Dockerfile").read_text(encoding="utf-8"))
        yield from _compose_claims(name, compose[name])
    yield "database image", "compose", compose["database"]["image"]
    production = yaml.safe_load((root / "docker-compose.prod.yml").read_text(encoding="utf-8"))
    yield "database image", "compose in production", production["services"]["postgres"]["image"]
    yield "database memory", "compose", compose["database"]["mem_limit"].removesuffix("m")
    variables = dict(
        re.findall(r"^(\w+)=(.*)$", (root / "postgres.env").read_text(encoding="utf-8"), re.M)
    )
    yield "database url", "postgres.env", variables["DATABASE_URL"]
    config = (root / "frontend/.streamlit/config.toml").read_text(encoding="utf-8")
    yield "frontend port", "config.toml", int(re.findall(r"^port = (\d+)", config, re.M)[0])
    for caller, name, port in picture(root):
        yield f"{name} port", f"the picture's {caller}", port
    for name in RENDERINGS:
        yield from _manifest_claims(name, render(root / "kubernetes" / name))
    yield from _version_claims(root)


def _image_claims(name: str, dockerfile: str) -> Iterator[Claim]:
    yield f"{name} user", "Dockerfile", re.findall(r"^USER (\d+)", dockerfile, re.M)[0]
    for port in re.findall(r"^EXPOSE (\d+)", dockerfile, re.M):
        yield f"{name} port", "Dockerfile EXPOSE", int(port)
    for port in re.findall(r'"--port", "(\d+)"', dockerfile):
        yield f"{name} port", "Dockerfile CMD", int(port)
    for port, path in re.findall(r"http://localhost:(\d+)(/[\w/]+)", dockerfile):
        yield f"{name} port", "Dockerfile HEALTHCHECK", int(port)
        yield f"{name} health", "Dockerfile HEALTHCHECK", path


def _compose_claims(name: str, service: dict[str, Any]) -> Iterator[Claim]:
    yield f"{name} image", "compose", service["image"]
    yield f"{name} memory", "compose", service["mem_limit"].removesuffix("m")
    for published in service.get("ports", ()):
        yield f"{name} port", "compose ports", int(published.rpartition(":")[2])
    for variable in service["environment"]:
        yield from _address_claims(f"compose {name}", *variable.partition("=")[::2])


def _address_claims(place: str, variable: str, value: str) -> Iterator[Claim]:
    for host, port in re.findall(r"^http://([\w.]+):(\d+)", value):
        yield f"{host} port", f"{place} {variable}", int(port)
        yield f"{variable}", place, value


def _manifest_claims(rendering: str, manifests: list[Manifest]) -> Iterator[Claim]:
    workloads = of_kind(manifests, *WORKLOADS)
    for name, workload in workloads.items():
        pod = pod_of(workload)
        container = pod["containers"][0]
        image = container["image"].rpartition("/")[2]
        yield f"{name} image", rendering, image if name == "database" else image.partition(":")[0]
        yield f"{name} memory", rendering, container["resources"]["limits"]["memory"][:-2]
        if name != "database":
            yield f"{name} user", rendering, str(pod["securityContext"]["runAsUser"])
        for port in container.get("ports", ()):
            yield f"{name} port", f"{rendering} container", port["containerPort"]
        for probe in ("startupProbe", "livenessProbe"):
            if "httpGet" in container.get(probe, {}):
                get = container[probe]["httpGet"]
                yield f"{name} health", f"{rendering} {probe}", get["path"]
                yield f"{name} port", f"{rendering} {probe}", port_number(container, get["port"])
        for variable in container.get("env", ()):
            yield from _address_claims(
                f"{rendering} {name}", variable["name"], variable.get("value", "")
            )
    for service in of_kind(manifests, "Service").values():
        name = service["spec"]["selector"]["app.kubernetes.io/name"]
        for port in service["spec"]["ports"]:
            place = f"{rendering} Service {service['metadata']['name']}"
            yield f"{name} port", place, port["port"]
            behind = pod_of(workloads[name])["containers"][0]
            yield f"{name} port", f"{rendering} target", port_number(behind, port["targetPort"])
    for caller, name, port in arrows(manifests):
        yield f"{name} port", f"{rendering} policy for {caller}", port
    for secret in of_kind(manifests, "Secret").values():
        for key, value in decoded(secret).items():
            yield key.replace("DATABASE_URL", "database url"), rendering, value


def _version_claims(root: Path) -> Iterator[Claim]:
    main = (root / "api/main.py").read_text(encoding="utf-8")
    yield "version", "api/main.py", re.findall(r'^VERSION = "(.+)"', main, re.M)[0]
    production = (root / "kubernetes/overlays/production/kustomization.yaml").read_text("utf-8")
    for image, tag in re.findall(r"newName: \S+/([\w-]+), newTag: (\S+) }", production):
        yield "version", f"production {image}", tag
