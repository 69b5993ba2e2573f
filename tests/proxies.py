"""Real proxies for tests: nginx and HAProxy, which do to a request what the originals do."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import free_port, is_open, wait_until

from tools.processes import ROOT

DOCUMENT = ROOT / "docs/where-it-runs.md"
# What a proxy needs for a WebSocket.
UPGRADE = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;"""
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off; absolute_redirect off; proxy_max_temp_file_size 0;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; uwsgi_temp_path {folder}/u;
    fastcgi_temp_path {folder}/fastcgi; scgi_temp_path {folder}/scgi;
    ssl_certificate {folder}/both.pem; ssl_certificate_key {folder}/both.pem;
    {servers}
}}"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"""


@dataclass(frozen=True)
class Place:
    """Where a browser finds the two services, and the ports of this machine that stand for it."""

    dashboard: str
    api: str
    ports: tuple[int, int]

    @property
    def api_path(self) -> str:
        """The prefix of the API."""
        return str(urlsplit(self.api).path)

    @property
    def rules(self) -> list[str]:
        """What a browser must know in place of DNS."""
        hosts = [urlsplit(url) for url in (self.dashboard, self.api)]
        named = [(at.hostname, at.port or {"http": 80, "https": 443}[at.scheme]) for at in hosts]
        return [
            f"MAP {name}:{port} 127.0.0.1:{local}"
            for (name, port), local in zip(named, self.ports, strict=True)
        ]


def documented(heading: str, number: int = 0) -> str:
    """Return a configuration that docs/where-it-runs.md shows under a heading."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text[text.index(f"\n## {heading}\n") + 4 :].partition("\n## ")[0]
    return str(re.findall(r"^```\w+\n(.*?)^```", section, re.M | re.S)[number])


def make_certificate(path: Path, name: str) -> None:
    """Write a certificate for a name, which is its own authority, and its key into one file."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", str(path), "-out", str(path), "-subj", "/CN=lab"]
    subprocess.run([*make, *files, "-addext", f"subjectAltName={name}"], check=True)


class Proxies:
    """All the proxies in front of one dashboard and one API."""

    def __init__(self, folder: Path, dashboard_port: int, api_port: int) -> None:
        self._folder = folder
        self._behind = (dashboard_port, api_port)
        self._servers = ['map $http_upgrade $connection_upgrade { default upgrade; "" close; }']
        self._haproxy = HAPROXY
        self.places = {
            "codespaces, Host rewritten": self._one_for_each(
                "https://lab-{port}.app.github.dev",
                "proxy_set_header Host localhost:{port};"
                " proxy_set_header X-Forwarded-Host $http_host;",
            ),
            "codespaces, Origin rewritten": self._one_for_each(
                "https://other-{port}.app.github.dev",
                "proxy_set_header Host $http_host; proxy_set_header Origin $given;"
                ' set $given $http_origin; if ($http_origin = "https://$http_host")'
                " {{ set $given http://localhost:{port}; }}",
            ),
            "jupyterhub": self._jupyterhub(),
            "nginx with a prefix": self._nginx_with_a_prefix(),
            "tls in front": self._one_for_each(
                "https://p{port}.school.example", "proxy_set_header Host $http_host;"
            ),
            "haproxy": self._by_haproxy(),
            "tunnel": self._one_for_each(
                "https://three-words-{port}.tunnel.example",
                "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host;"
                " proxy_set_header X-Forwarded-Proto https;"
                " proxy_set_header X-Forwarded-For 192.0.2.1;",
            ),
            "address": self._by_address(),
        }

    @property
    def public_url(self) -> str:
        """Every address, as PUBLIC_URL has them."""
        return ",".join(f"{each.dashboard},{each.api}" for each in self.places.values())

    def _tls(self, locations: str) -> int:
        port = free_port()
        self._servers.append(f"server {{ listen 127.0.0.1:{port} ssl; {locations} }}")
        return port

    def _one_for_each(self, address: str, headers: str) -> Place:
        """A host name for each service; the port is a part of it."""
        ports = [
            self._tls(
                f"location / {{ proxy_pass http://127.0.0.1:{port}; {UPGRADE}"
                f" {headers.format(port=port)} }}"
            )
            for port in self._behind
        ]
        dashboard, api = (address.format(port=port) for port in self._behind)
        return Place(dashboard, api, (ports[0], ports[1]))

    def _jupyterhub(self) -> Place:
        """It removes the prefix, and names it in three headers. Host and Origin stay."""
        prefixes = [f"/user/me/proxy/{port}" for port in self._behind]
        locations = [
            f"location {prefix}/ {{ proxy_pass http://127.0.0.1:{port}/; {UPGRADE}"
            f" proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Context {prefix};"
            f" proxy_set_header X-ProxyContextPath {prefix};"
            f" proxy_set_header X-Forwarded-Prefix {prefix}; }}"
            for prefix, port in zip(prefixes, self._behind, strict=True)
        ]
        port = self._tls("".join(locations))
        dashboard, api = (f"https://hub.example{prefix}" for prefix in prefixes)
        return Place(dashboard, api, (port, port))

    def _nginx_with_a_prefix(self) -> Place:
        port = free_port()
        text = documented("nginx with a prefix").partition("\n\n")[2]  # without its `map`
        self._servers.append(self._on_our_ports(text.replace("80;", f"127.0.0.1:{port};", 1)))
        root = "http://lab.example"
        return Place(f"{root}/dashboard", f"{root}/api", (port, port))

    def _by_haproxy(self) -> Place:
        port = free_port()
        text = documented("HAProxy")
        self._haproxy += self._on_our_ports(text.replace(":80\n", f"127.0.0.1:{port}\n", 1))
        return Place("http://dashboard.example", "http://api.example", (port, port))

    def _by_address(self) -> Place:
        """A published port of a machine in the classroom: nothing is rewritten."""
        ports = (free_port(), free_port())
        for port, behind in zip(ports, self._behind, strict=True):
            self._haproxy += f"listen address-{port}\n    mode tcp\n    bind 127.0.0.1:{port}\n"
            self._haproxy += f"    server one 127.0.0.1:{behind}\n"
        return Place("http://192.0.2.7:8501", "http://192.0.2.7:8000", ports)

    def _on_our_ports(self, text: str) -> str:
        for documented_port, port in zip((8501, 8000), self._behind, strict=True):
            assert f"127.0.0.1:{documented_port}" in text
            text = text.replace(f"127.0.0.1:{documented_port}", f"127.0.0.1:{port}")
        return text

    def start(self, open_terminal: Callable[..., object]) -> None:
        """Start nginx and HAProxy, and return when they accept connections."""
        # A user's PATH may lack the folder of servers.
        found = {
            name: shutil.which(name) or shutil.which(name, path="/usr/sbin")
            for name in ("nginx", "haproxy", "openssl")
        }
        if missing := [name for name, path in found.items() if not path]:
            pytest.skip(f"not installed: {missing}")
        make_certificate(self._folder / "both.pem", "DNS:lab.example")
        servers = "\n".join(self._servers)
        nginx = self._folder / "nginx.conf"
        nginx.write_text(NGINX.format(folder=self._folder, servers=servers))
        haproxy = self._folder / "haproxy.cfg"
        haproxy.write_text(self._haproxy)
        open_terminal(found["nginx"], "-p", str(self._folder), "-c", str(nginx))
        open_terminal(found["haproxy"], "-db", "-f", str(haproxy))
        for port in {port for place in self.places.values() for port in place.ports}:
            wait_until(f"a proxy on {port}", partial(is_open, "127.0.0.1", port), 20)
