"""The network policies: only the connections of the picture in docs/architecture.md are allowed."""

from pathlib import Path

import pytest
from facts import change
from manifests import WORKLOADS, Arrow, Manifest, arrows, of_kind, picture, render

from tools.processes import ROOT


def dns_arrows(callers: set[str]) -> set[Arrow]:
    """Return the DNS arrows of some callers: over UDP, and over TCP for long responses."""
    return {(caller, "dns", port) for caller in callers for port in (53, "53/UDP")}


def check_policies(root: Path) -> None:
    """Assert that production allows the arrows of the picture, and DNS where an arrow starts."""
    manifests = render(root / "deploy/kubernetes/overlays/production")
    drawn = picture(root)
    pods = of_kind(manifests, *WORKLOADS)

    assert len(drawn) >= 6
    assert arrows(manifests) == drawn | dns_arrows({caller for caller, _, _ in drawn} & pods.keys())


def test_the_policies_are_the_picture() -> None:
    """Production allows the arrows of the picture, and DNS where an arrow starts, and no more."""
    check_policies(ROOT)


BASE = "deploy/kubernetes/base/network.yaml"
PRODUCTION = "deploy/kubernetes/overlays/production/network.yaml"
KUBE_DNS = "          podSelector:\n            matchLabels: { k8s-app: kube-dns }\n"
PROMETHEUS = (
    "          podSelector:\n            matchLabels: { app.kubernetes.io/name: prometheus }\n"
)
CALLERS = "values: [simulator, frontend] }\n  policyTypes: "
WRONG_POLICIES = {
    "the whole world for the database": (PRODUCTION, "192.0.2.0/24", "0.0.0.0/0"),
    "the database over UDP": (PRODUCTION, "5432, protocol: TCP }", "5432, protocol: UDP }"),
    "more than one port": (PRODUCTION, "port: 5432,", "port: 5432, endPort: 5440,"),
    "DNS over TCP only": (BASE, "{ port: 53, protocol: UDP }, ", ""),
    "all of kube-system for DNS": (BASE, KUBE_DNS, ""),
    "all of monitoring for Prometheus": (PRODUCTION, PROMETHEUS, ""),
    "rules without effect": (BASE, CALLERS + "[Egress]", CALLERS + "[Ingress]"),
}


@pytest.mark.parametrize("mistake", WRONG_POLICIES)
def test_a_wrong_policy_is_found(checkout: Path, mistake: str) -> None:
    """The check fails for a policy that allows more than the picture, or less."""
    change(checkout, *WRONG_POLICIES[mistake])

    with pytest.raises(AssertionError):
        check_policies(checkout)


def test_overlays_allow_no_more_than_the_picture(manifests: list[Manifest]) -> None:
    """The base and each overlay deny every connection except arrows of the picture."""
    default = of_kind(manifests, "NetworkPolicy")["default-deny"]["spec"]
    dns = {arrow for arrow in arrows(manifests) if arrow[1] == "dns"}
    opened = arrows(manifests) - dns
    pods = of_kind(manifests, *WORKLOADS)

    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert opened <= picture(ROOT)
    assert {("simulator", "api", 8000), ("frontend", "api", 8000)} <= opened
    assert dns == dns_arrows({caller for caller, _, _ in opened} & pods.keys())
