"""Stands in for the API server of Kubernetes, for kubectl: it validates strictly, and stores.

It knows the kinds of this project. No controller runs, so no pod starts.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate

KINDS = {
    "api/v1": {
        "Namespace": "namespaces",
        "Service": "services",
        "Secret": "secrets",
        "ServiceAccount": "serviceaccounts",
    },
    "apis/apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"},
    "apis/autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "apis/networking.k8s.io/v1": {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"},
    "apis/policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
}
Object = dict[str, Any]


class Cluster(ThreadingHTTPServer):
    """The server. `objects` has what is stored, by path; `patches` every change that was sent."""

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.version = version
        self.objects: dict[str, Object] = {}
        self.patches: dict[str, Object] = {}
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def discovered(self, path: str) -> Object | None:
        """Return what kubectl asks before it sends anything: which kinds and fields there are."""
        groups = [group.split("/")[1:] for group in KINDS if group.startswith("apis/")]
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            versions = [
                (name, {"groupVersion": f"{name}/{version}", "version": version})
                for name, version in groups
            ]
            named = [{"name": n, "versions": [v], "preferredVersion": v} for n, v in versions]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
        if path == "openapi/v3":
            urls = {group: {"serverRelativeURL": f"/openapi/v3/{group}"} for group in KINDS}
            return {"paths": urls}
        if path.startswith("openapi/v3/"):
            return self._fields(path.removeprefix("openapi/v3/"))
        if path in KINDS:
            return self._kinds(path)
        return None

    def _kinds(self, group: str) -> Object:
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources = [
            {"name": plural, "kind": kind, "namespaced": kind != "Namespace", "verbs": verbs}
            for kind, plural in KINDS[group].items()
        ]
        version = group.partition("/")[2]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}

    def _fields(self, group: str) -> Object:
        """Say that this server validates fields itself, so kubectl leaves that to it."""
        name, _, version = group.removeprefix("apis/").removeprefix("api/").rpartition("/")
        paths = {}
        for kind, plural in KINDS[group].items():
            patch = {
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": {
                    "group": name,
                    "version": version,
                    "kind": kind,
                },
            }
            paths[f"/{group}/{plural}/{{name}}"] = {"patch": patch}
        return {"openapi": "3.0.0", "info": {}, "paths": paths}

    def create(self, path: str, given: Object) -> str | None:
        """Store an object with the defaults of Kubernetes; return what is wrong with it."""
        try:
            kubernetes_validate.validate(given, self.version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return str(error.message)
        for rule in (given.get("spec") or {}).get("ingress", []):
            for port in rule.get("ports", []) if given["kind"] == "NetworkPolicy" else []:
                port.setdefault("protocol", "TCP")
        self.objects[f"{path}/{given['metadata']['name']}"] = given
        return None


class Handler(BaseHTTPRequestHandler):
    """One request of kubectl."""

    server: Cluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send an object, or what kubectl needs to know first."""
        path = urlsplit(self.path).path.strip("/")
        found = self.server.discovered(path) or self.server.objects.get(path)
        if found:
            self._send(200, found)
        else:
            *_, resource, name = ["", *path.split("/")]
            self._fail(404, f'{resource} "{name}" not found', "NotFound")

    def do_POST(self) -> None:
        """Store a new object, if it is valid and kubectl wants it to be checked strictly."""
        url, given = urlsplit(self.path), self._body()
        if "fieldValidation=Strict" not in url.query:
            self._fail(400, "expected the strict validation of fields", "BadRequest")
        elif wrong := self.server.create(url.path.strip("/"), given):
            self._fail(400, wrong, "BadRequest")
        else:
            self._send(201, given)

    def do_PATCH(self) -> None:
        """Remember the change, and send the object as it was."""
        path = urlsplit(self.path).path.strip("/")
        self.server.patches[path] = self._body()
        self._send(200, self.server.objects[path])

    def _body(self) -> Object:
        found: Object = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return found

    def _fail(self, code: int, message: str, reason: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
        self._send(code, {**status, "message": message, "reason": reason, "code": code})

    def _send(self, code: int, answer: Object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
