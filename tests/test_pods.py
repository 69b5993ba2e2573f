"""The pods of the trial, each as a Docker container with the limits of its manifest.

There is no cluster. Docker gives a container the user, the read-only root, the memory and the
variables of its pod, and the test makes the requests of the kubelet, to the pod's address.
"""

import random
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx2
import pytest
from conftest import Docker, open_page, wait_until
from manifests import WORKLOADS, Manifest, decoded, of_kind, pod_of, port_number, render
from playwright.sync_api import Browser, expect

from tools.processes import ROOT

ORDER = ("frontend", "simulator", "database", "api")  # the database starts late, the API last


class Pods:
    """The containers of one overlay, in a new network, with the names of their Services."""

    def __init__(self, docker: Docker, manifests: list[Manifest]) -> None:
        self._docker = docker
        self._manifests = manifests
        self._workloads = of_kind(manifests, *WORKLOADS)
        subnet = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"
        self._network = f"{docker.PREFIX}-pods-{subnet}"
        self.addresses = {name: f"{subnet}.{10 + i}" for i, name in enumerate(ORDER)}
        docker("network", "create", "--subnet", f"{subnet}.0/24", self._network)

    def container(self, name: str) -> dict[str, Any]:
        """Return the manifest of a pod's container."""
        found: dict[str, Any] = pod_of(self._workloads[name])["containers"][0]
        return found

    def id(self, name: str) -> str:
        """Return the name of a pod's container in the engine."""
        return f"{self._network}-{name}"

    def start(self, name: str) -> None:
        """Start a pod's container with the options of its manifest."""
        pod, container = pod_of(self._workloads[name]), self.container(name)
        context, own = pod["securityContext"], container["securityContext"]
        user = f"{context['runAsUser']}:{context['runAsGroup']}"
        options = ["--network", self._network, "--network-alias", name]
        options += ["--ip", self.addresses[name], "--user", user]
        options += ["--memory", container["resources"]["limits"]["memory"].removesuffix("i") + "b"]
        options += [f"--cap-drop={each}" for each in own["capabilities"]["drop"]]
        options += ["--read-only"] if own["readOnlyRootFilesystem"] else []
        options += [] if own["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
        for mount in container.get("volumeMounts", ()):
            # A volume belongs to the pod's group, as with `fsGroup`.
            owner = f"uid={context['runAsUser']},gid={context['fsGroup']},mode=0770"
            options += ["--tmpfs", f"{mount['mountPath']}:rw,{owner}"]
        variables: dict[str, str] = {}
        for each in container.get("env", ()):
            given = {**variables, "POD_IP": self.addresses[name]}
            variables[each["name"]] = self._value(each, given)
        options += [f"--env={key}={value}" for key, value in variables.items()]
        if name == "frontend":  # in place of `kubectl port-forward`
            options += ["--publish", "127.0.0.1::8501"]
        self._docker("run", "--detach", "--name", self.id(name), *options, container["image"])

    def _value(self, variable: dict[str, Any], given: dict[str, str]) -> str:
        if "value" in variable:
            return re.sub(r"\$\((\w+)\)", lambda match: given[match[1]], variable["value"])
        source = variable["valueFrom"]
        if "fieldRef" in source:
            return given["POD_IP"]
        reference = source["secretKeyRef"]
        return decoded(of_kind(self._manifests, "Secret")[reference["name"]])[reference["key"]]

    def passes(self, name: str, probe: str) -> bool:
        """Return whether a probe succeeds, as the kubelet decides it."""
        container = self.container(name)
        check = container[probe]
        if "exec" in check:
            return "accepting" in self._docker(
                "exec", self.id(name), *check["exec"]["command"], check=False
            )
        port = port_number(container, check["httpGet"]["port"])
        url = f"http://{self.addresses[name]}:{port}{check['httpGet']['path']}"
        try:
            timeout = check.get("timeoutSeconds", 1)
            return 200 <= httpx2.get(url, timeout=timeout, trust_env=False).status_code < 400
        except httpx2.TransportError:
            return False

    def clean_up(self) -> None:
        """Remove the containers and the network."""
        self._docker("rm", "--force", "--volumes", *map(self.id, ORDER), check=False)
        self._docker("network", "rm", self._network)


@pytest.fixture
def pods(docker: Docker, postgres_image: str) -> Iterator[Pods]:
    """Yield the pods of the trial, with images built from this checkout."""
    manifests = render(ROOT / "deploy/kubernetes/overlays/local")
    folders = ("api", "data_ingestion_simulator", "frontend")
    for name, folder in zip(("user-api", "data-simulator", "frontend-app"), folders, strict=True):
        docker("build", "--quiet", "--tag", name, str(ROOT / folder))
    pods = Pods(docker, manifests)
    assert pods.container("database")["image"] == postgres_image
    try:
        yield pods
    finally:
        pods.clean_up()


@pytest.mark.usefixtures("native_engine")
def test_the_pods_work_as_their_manifests_describe_them(
    pods: Pods, docker: Docker, browser: Browser
) -> None:
    """Started in the wrong order, all probes pass, and a browser shows the simulator's users.

    Then the database is paused: the API is alive, but not ready until the database is back.
    """
    for name in ORDER:
        pods.start(name)
    for name in ORDER:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in pods.container(name):
                wait_until(f"{name}'s {probe}", partial(pods.passes, name, probe), 90)
    page = browser.new_page()
    forwarded = docker("port", pods.id("frontend"), "8501").rpartition(":")[2]
    open_page(page, f"http://localhost:{forwarded}")
    expect(page.get_by_text("Live, updated")).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible(timeout=30_000)
    page.close()

    docker("pause", pods.id("database"))
    wait_until("the failing probe", lambda: not pods.passes("api", "readinessProbe"), 10)
    assert pods.passes("api", "livenessProbe")
    docker("unpause", pods.id("database"))
    wait_until("the passing probe", lambda: pods.passes("api", "readinessProbe"), 10)
    for name in ("api", "simulator", "frontend"):
        code, restarts = docker(
            "inspect", "--format", "{{.State.ExitCode}} {{.RestartCount}}", pods.id(name)
        ).split()
        assert (code, restarts) == ("0", "0"), docker("logs", pods.id(name))
