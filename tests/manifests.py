"""Kubernetes manifests as Kustomize renders them, and the connections that they allow."""

import base64
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.processes import ROOT

RENDERINGS = ("base", "overlays/local", "overlays/production")
NAME, NAMESPACE = "app.kubernetes.io/name", "kubernetes.io/metadata.name"
WORKLOADS = ("Deployment", "StatefulSet")

Manifest = dict[str, Any]
Port = int | str  # a number, and by UDP a number with /UDP
Arrow = tuple[str, str, Port]  # caller, called, port


def render(folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k` would send to a cluster; skip if kubectl is not installed."""
    if not shutil.which("kubectl"):
        pytest.skip("needs `kubectl`, which renders the manifests")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def rendered(name: str) -> list[Manifest]:
    """Return the manifests of the base or of an overlay in this repository."""
    return render(ROOT / "deploy/kubernetes" / name)


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """Return the manifests of some kinds by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in kinds}


def pod_of(workload: Manifest) -> dict[str, Any]:
    """Return the pod of a workload. In this project it has one container."""
    pod: dict[str, Any] = workload["spec"]["template"]["spec"]
    assert len(pod["containers"]) == 1
    return pod


def port_number(container: dict[str, Any], port: str | int) -> int:
    """Return the number of a named port of a container, as Kubernetes finds it."""
    named = {each["name"]: each["containerPort"] for each in container["ports"]}
    return int(named.get(port, port))


def decoded(secret: Manifest) -> dict[str, str]:
    """Return the values of a Secret."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


# -------------------------------------------------------------------------- the network policies


def picture(root: Path) -> set[Arrow]:
    """Return the arrows of the picture in docs/architecture.md."""
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"^ +(\w+) -->\|(\d+)\| (\w+)$", text, re.M)
    return {(caller, called, int(port)) for caller, port, called in found}


# The peers outside the namespace, exactly as the policies must select them: with a missing selector
# or a wider range of addresses, other peers would be allowed too.
OUTSIDE: dict[str, dict[str, Any]] = {
    "edge": {"namespaceSelector": {"matchLabels": {NAMESPACE: "ingress"}}},
    "prometheus": {
        "namespaceSelector": {"matchLabels": {NAMESPACE: "monitoring"}},
        "podSelector": {"matchLabels": {NAME: "prometheus"}},
    },
    "dns": {
        "namespaceSelector": {"matchLabels": {NAMESPACE: "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    },
    "database": {"ipBlock": {"cidr": "192.0.2.0/24"}},
}


def arrows(manifests: list[Manifest], *, at_both_ends: bool = True) -> set[Arrow]:
    """Return the connections that the policies allow; fail if they must be allowed at both ends."""
    pods = of_kind(manifests, *WORKLOADS)
    leaving, arriving = set(), set()
    for policy in of_kind(manifests, "NetworkPolicy").values():
        for name in _selected(policy["spec"]["podSelector"], pods):
            for rule in _rules(policy["spec"], "Egress"):
                leaving |= {(name, *end) for end in _ends(rule, "to", pods, None)}
            for rule in _rules(policy["spec"], "Ingress"):
                arriving |= {
                    (caller, name, port) for caller, port in _ends(rule, "from", pods, name)
                }
    if not at_both_ends:
        return leaving | arriving
    half_open = {end for end in leaving - arriving if end[1] in pods} | {
        end for end in arriving - leaving if end[0] in pods
    }
    assert not half_open, f"allowed at one end only: {half_open}"
    return leaving | arriving


def _rules(policy: dict[str, Any], direction: str) -> list[dict[str, Any]]:
    """Return a policy's rules for a direction; fail if the policy's types make them void."""
    rules: list[dict[str, Any]] = policy.get(direction.lower(), [])
    types = policy.get("policyTypes", ["Ingress", "Egress"] if "egress" in policy else ["Ingress"])
    assert direction in types or not rules, f"rules without effect: {policy}"
    return rules


def _ends(
    rule: dict[str, Any], side: str, pods: dict[str, Manifest], called: str | None
) -> set[tuple[str, Port]]:
    """Return the peers of a rule, each with the allowed port."""
    assert rule[side], "a rule without peers allows all of them"
    assert rule["ports"], "a rule without ports allows all of them"
    return {
        (name, _port(each, pods.get(called or name)))
        for peer in rule[side]
        for name in _peers(peer, pods)
        for each in rule["ports"]
    }


def _port(opened: dict[str, Any], target: Manifest | None) -> Port:
    assert opened.keys() <= {"port", "protocol"}, f"more than one port: {opened}"
    number = (
        port_number(pod_of(target)["containers"][0], opened["port"]) if target else opened["port"]
    )
    protocol = opened.get("protocol", "TCP")
    return int(number) if protocol == "TCP" else f"{number}/{protocol}"


def _peers(peer: dict[str, Any], pods: dict[str, Manifest]) -> list[str]:
    if peer.keys() == {"podSelector"}:
        return _selected(peer["podSelector"], pods)
    known = [name for name, exactly in OUTSIDE.items() if peer == exactly]
    assert known, f"not in the picture: {peer}"
    return known


def _selected(selector: dict[str, Any], pods: dict[str, Manifest]) -> list[str]:
    """Return the workloads whose pods have the labels of a selector."""
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
