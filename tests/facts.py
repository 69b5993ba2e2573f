"""Facts that stand in several files, such as a port, and the value in each place."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from manifests import (
    RENDERINGS,
    WORKLOADS,
    Manifest,
    arrows,
    decoded,
    of_kind,
    picture,
    pod_of,
    port_number,
    render,
)

FOLDERS = {"api": "api", "simulator": "data_ingestion_simulator", "frontend": "frontend"}

Claim = tuple[str, str, object]  # a fact, a place, and the value there


def disagreements(root: Path) -> dict[str, dict[str, object]]:
    """Return the facts of a checkout that differ between places, with the value in each place."""
    found: dict[str, dict[str, object]] = defaultdict(dict)
    for fact, place, value in claims(root):
        found[fact][place] = value
    return {fact: places for fact, places in found.items() if len(set(places.values())) > 1}


def claims(root: Path) -> Iterator[Claim]:
    """Yield every fact that stands in more than one file, once for each place."""
    compose = services(root, "docker-compose.yml")
    for name, folder in FOLDERS.items():
        yield from _image_claims(name, read(root, f"{folder}/Dockerfile"))
        yield from _compose_claims(name, compose[name])
        yield from _settings_claims(name, read(root, f"{folder}/settings.py"))
    yield "database image", "compose", compose["database"]["image"]
    yield "database memory", "compose", compose["database"]["mem_limit"].removesuffix("m")
    variables = dict(re.findall(r"^(\w+)=(.*)$", read(root, "deploy/postgres.env"), re.M))
    yield "database url", "deploy/postgres.env", variables["DATABASE_URL"]
    config = read(root, "frontend/.streamlit/config.toml")
    yield "frontend port", "config.toml", int(re.findall(r"^port = (\d+)", config, re.M)[0])
    for caller, name, called in picture(root):
        yield f"{name} port", f"the picture's {caller}", called
    yield from _production_claims(services(root, "deploy/docker-compose.prod.yml"))
    yield from _edge_claims(read(root, "deploy/edge/haproxy.cfg"))
    yield from _prometheus_claims(root / "deploy/observability")
    for name in RENDERINGS:
        yield from _manifest_claims(name, render(root / "deploy/kubernetes" / name))
    yield from _version_claims(root)


def read(root: Path, name: str) -> str:
    """Return a file of a checkout."""
    return (root / name).read_text(encoding="utf-8")


def services(root: Path, name: str) -> dict[str, Any]:
    """Return the services of a Compose file."""
    found: dict[str, Any] = yaml.safe_load(read(root, name))["services"]
    return found


def constant(root: Path, service: str, name: str) -> str:
    """Return the number, or text, that a module of a service gives to a constant."""
    for path in sorted((root / service).glob("*.py")):
        found = re.search(rf"^{name}(?:: \w+)? = (.+?)(?:  #.*)?$", read(root, str(path)), re.M)
        if found:
            return found[1].strip('"')
    raise AssertionError(f"no module of {service} has a constant {name}")


def change(root: Path, file: str, was: str, becomes: str) -> None:
    """Replace the first occurrence of a text in a file of a checkout."""
    text = read(root, file)
    assert was in text
    (root / file).write_text(text.replace(was, becomes, 1), encoding="utf-8")


def _settings_claims(name: str, settings: str) -> Iterator[Claim]:
    """The API's default URL in the settings of its clients: defaults, messages and help texts."""
    if name != "api":
        for number, port in enumerate(re.findall(r"http://localhost:(\d+)", settings)):
            yield "api port", f"{name}'s settings {number}", int(port)


def _production_claims(production: dict[str, Any]) -> Iterator[Claim]:
    """Production with Compose: the two ports of the load balancer, and the services behind it."""
    yield "database image", "compose in production", production["postgres"]["image"]
    for published in production["edge"]["ports"]:
        yield "edge's public port", "production ports", int(published.rpartition(":")[2])
    for name in FOLDERS:
        for variable in production[name]["environment"]:
            place = f"production {name} {variable.partition('=')[0]}"
            for port in re.findall(r"=http://edge:(\d+)", variable):
                yield "edge's inner port", place, int(port)
            for port in re.findall(r"=postgresql://\w+@\w+:?(\d*)/", variable):
                yield "database port", place, int(port or 5432)
    yield "api command", "production", production["api"]["command"][-1].partition(" exec ")[2]
    check = production["frontend"]["healthcheck"]["test"][-1]
    yield "frontend port", "production healthcheck", int(re.findall(r"localhost:(\d+)", check)[0])


def _edge_claims(config: str) -> Iterator[Claim]:
    binds = re.findall(r"^frontend (\w+) .*\n(?: .*\n)*?    bind :(\d+)", config, re.M)
    ports = {name: int(port) for name, port in binds}
    yield "edge's public port", "haproxy.cfg", ports["public"]
    yield "edge's inner port", "haproxy.cfg", ports["inside"]
    for host, port in re.findall(r"^    server.* (\w+):(\d+)", config, re.M):
        yield f"{host} port", "haproxy.cfg", int(port)


def _prometheus_claims(folder: Path) -> Iterator[Claim]:
    for path in sorted(folder.glob("prometheus*.yml")):
        (job,) = yaml.safe_load(path.read_text(encoding="utf-8"))["scrape_configs"]
        for discovery in job.get("dns_sd_configs", ()):
            yield "api port", path.name, discovery["port"]
        for fixed in job.get("static_configs", ()):
            for target in fixed["targets"]:
                yield "api port", path.name, int(target.rpartition(":")[2])


def _image_claims(name: str, dockerfile: str) -> Iterator[Claim]:
    yield f"{name} user", "Dockerfile", re.findall(r"^USER (\d+)", dockerfile, re.M)[0]
    for port in re.findall(r"^EXPOSE (\d+)", dockerfile, re.M):
        yield f"{name} port", "Dockerfile EXPOSE", int(port)
    for port in re.findall(r'"--port", "(\d+)"', dockerfile):
        yield f"{name} port", "Dockerfile CMD", int(port)
    command = " ".join(json.loads(re.findall(r"^CMD (.+)", dockerfile, re.M)[0]))
    yield f"{name} command", "Dockerfile", command
    for port, path in re.findall(r"http://localhost:(\d+)(/[\w/]+)", dockerfile):
        yield f"{name} port", "Dockerfile HEALTHCHECK", int(port)
        yield f"{name} health", "Dockerfile HEALTHCHECK", path
    for check in re.findall(r"^HEALTHCHECK.*\n    CMD (.*http://.*)", dockerfile, re.M):
        yield f"{name} health check", "Dockerfile", " ".join(json.loads(check))


def _compose_claims(name: str, service: dict[str, Any]) -> Iterator[Claim]:
    yield f"{name} image", "compose", service["image"]
    yield f"{name} memory", "compose", service["mem_limit"].removesuffix("m")
    for published in service.get("ports", ()):
        yield f"{name} port", "compose ports", int(published.rpartition(":")[2])
    if "healthcheck" in service:
        yield f"{name} health check", "compose", " ".join(service["healthcheck"]["test"][1:])
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
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "httpGet" in container.get(probe, {}):
                get = container[probe]["httpGet"]
                if get["path"] != "/ready":
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
    yield from _ingress_claims(rendering, manifests)
    for caller, name, opened in arrows(manifests, at_both_ends=False):
        if name != "dns":  # it has two ports
            yield f"{name} port", f"{rendering} policy for {caller}", opened
    for secret in of_kind(manifests, "Secret").values():
        for key, value in decoded(secret).items():
            yield key.replace("DATABASE_URL", "database url"), rendering, value


def _ingress_claims(rendering: str, manifests: list[Manifest]) -> Iterator[Claim]:
    behind = of_kind(manifests, "Service")
    for ingress in of_kind(manifests, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                named = {
                    each["name"]: each["port"] for each in behind[service["name"]]["spec"]["ports"]
                }
                port = service["port"].get("number") or named.get(service["port"]["name"])
                yield f"{service['name']} port", f"{rendering} Ingress {path['path']}", port


def _version_claims(root: Path) -> Iterator[Claim]:
    yield "version", "api", constant(root, "api", "VERSION")
    production = (root / "deploy/kubernetes/overlays/production/kustomization.yaml").read_text(
        "utf-8"
    )
    for image, tag in re.findall(r"newName: \S+/([\w-]+), newTag: (\S+) }", production):
        yield "version", f"production {image}", tag
