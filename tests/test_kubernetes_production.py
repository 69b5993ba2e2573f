"""The production overlay: made for failing nodes, and for a database with limited connections."""

import json
from pathlib import Path

from facts import constant
from manifests import WORKLOADS, of_kind, pod_of, render, rendered

from tools.processes import ROOT


def test_production_survives_the_loss_of_a_node() -> None:
    """There are three or more APIs, spread over nodes, and maintenance stops one at a time."""
    manifests = rendered("overlays/production")
    pod = pod_of(of_kind(manifests, "Deployment")["api"])
    spread, zones = pod["topologySpreadConstraints"]
    budget = of_kind(manifests, "PodDisruptionBudget")["api"]["spec"]
    scaler = of_kind(manifests, "HorizontalPodAutoscaler")["api"]["spec"]

    assert "replicas" not in of_kind(manifests, "Deployment")["api"]["spec"]
    assert scaler["minReplicas"] == 3
    assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == (
        "topology.kubernetes.io/zone",
        "ScheduleAnyway",
    )
    assert budget["maxUnavailable"] == 1
    labels = of_kind(manifests, "Deployment")["api"]["spec"]["template"]["metadata"]["labels"]
    for selector in (spread["labelSelector"], zones["labelSelector"], budget["selector"]):
        assert selector["matchLabels"].items() <= labels.items()


def test_the_pods_of_a_dead_node_start_elsewhere_after_half_a_minute() -> None:
    """Each workload tolerates a node that is not ready, or unreachable, for 30 s, not for 300."""
    for workload in of_kind(rendered("overlays/production"), *WORKLOADS).values():
        tolerated = {each["key"]: each for each in pod_of(workload)["tolerations"]}
        assert tolerated.keys() == {
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        }
        for each in tolerated.values():
            assert (each["effect"], each["tolerationSeconds"]) == ("NoExecute", 30)


POSTGRESQL_CONNECTIONS = 100 - 3  # by default; three are reserved for superusers


def test_the_database_has_connections_for_all_pods() -> None:
    """The pods of an update need fewer connections than PostgreSQL allows by default.

    Old pods keep their connections while they drain, so there can be twice as many pods as usual.
    """
    listings = int(constant(ROOT, "api", "MAX_SNAPSHOTS"))
    manifests = rendered("overlays/production")
    replicas = of_kind(manifests, "HorizontalPodAutoscaler")["api"]["spec"]["maxReplicas"]
    update = of_kind(manifests, "Deployment")["api"]["spec"]["strategy"]["rollingUpdate"]
    new, draining = replicas + update["maxSurge"], replicas

    assert (new + draining) * (2 + listings) <= POSTGRESQL_CONNECTIONS


def test_the_ingress_publishes_the_calls_for_users() -> None:
    """Clients outside reach every call about users, and neither the probes nor the metrics."""
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


def test_the_gateway_has_the_routes_of_the_ingress(checkout: Path) -> None:
    """With the component `gateway`, HTTPRoutes have the hosts, paths and ports of the Ingress."""
    folder = checkout / "deploy/kubernetes/overlays/production"
    kustomization = folder / "kustomization.yaml"
    lines = kustomization.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("  - ingress.yaml")]
    lines.insert(lines.index("components:") + 1, "  - ../../gateway")
    kustomization.write_text("\n".join(lines), encoding="utf-8")
    manifests = render(folder)
    [ingress] = of_kind(rendered("overlays/production"), "Ingress").values()
    types = {"Prefix": "PathPrefix", "Exact": "Exact"}
    ports = {
        name: service["spec"]["ports"][0]["port"]
        for name, service in of_kind(manifests, "Service").items()
    }
    expected = {
        (rule["host"], types[path["pathType"]], path["path"], service, ports[service])
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
        for service in [path["backend"]["service"]["name"]]
    }
    found = {
        (host, match["path"]["type"], match["path"]["value"], end["name"], end["port"])
        for route in of_kind(manifests, "HTTPRoute").values()
        for host in route["spec"]["hostnames"]
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
        for end in rule["backendRefs"]
    }

    assert not of_kind(manifests, "Ingress")
    assert found == expected
