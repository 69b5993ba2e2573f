"""Production with a certificate: TLS only, and a renewal that closes no connection."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from conftest import wait_until
from production import Production, exchange


def test_a_certificate_turns_tls_on(production: Production) -> None:
    """Then there is no plain HTTP, and a new certificate closes no connection of an open page."""
    certificates = production.folder / "deploy" / "edge" / "certificates"
    certificates.mkdir()
    make_certificate(certificates / "edge.pem")
    try:
        production.compose("restart", "edge")
        wait_until("TLS", lambda: peer_certificate(production.port), 20)
        first = peer_certificate(production.port)
        page = opened_page(production.port)
        plain, _ = exchange(production.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        make_certificate(certificates / "edge.pem")
        production.compose("kill", "-s", "USR2", "edge")
        wait_until("the new one", lambda: peer_certificate(production.port) not in (first, b""), 20)
        secure = HTTPSConnection("localhost", production.port, context=accept_any_certificate())
        with contextlib.closing(secure):
            secure.request("GET", "/health")
            response = secure.getresponse()
            body = response.read()
        time.sleep(12)  # longer than every timeout for idle connections
        with contextlib.closing(page):
            page.sock.sendall(PING)
            assert page.sock.recv(1_000).endswith(PONG)
    finally:
        shutil.rmtree(certificates)
        production.compose("restart", "edge")
        production.wait_for_replicas()

    assert (response.status, body) == (200, b'{"status":"healthy"}')
    assert not plain.startswith("HTTP/1.1 2")


@pytest.mark.usefixtures("native_engine")
def test_an_unreadable_certificate_prevents_the_start(production: Production) -> None:
    """The load balancer does not fall back to plain HTTP."""
    certificates = production.folder / "deploy" / "edge" / "certificates"
    certificates.mkdir()
    (certificates / "edge.pem").write_text("readable by root only")
    try:
        certificates.chmod(0o700)
        folder = production.try_compose("run", "--rm", "-T", "--no-deps", "edge")
        certificates.chmod(0o755)
        (certificates / "edge.pem").chmod(0o600)
        file = production.try_compose("run", "--rm", "-T", "--no-deps", "edge")
    finally:
        shutil.rmtree(certificates)

    for done in (folder, file):
        assert done.returncode == 2
        assert "that user 99 can read" in done.stdout + done.stderr


PING, PONG = (
    b"\x89\x80\0\0\0\0",
    b"\x8a\0",
)  # RFC 6455: from client and server
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "bGFiLWxhYi1sYWItbGFiIQ==",
}


def opened_page(port: int) -> HTTPSConnection:
    """Return the WebSocket connection of an open page of the dashboard."""
    page = HTTPSConnection("localhost", port, timeout=15, context=accept_any_certificate())

    def is_open() -> bool:
        page.close()
        page.request("GET", "/dashboard/_stcore/stream", headers=UPGRADE)
        return page.getresponse().status == 101

    wait_until("the dashboard", is_open, 20)
    return page


def make_certificate(path: Path) -> None:
    """Write a self-signed certificate and its key into one file."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl on this machine")
    key = path.with_suffix(".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + key.read_text())
    path.chmod(0o644)


def accept_any_certificate() -> ssl.SSLContext:
    """Return a context that accepts a self-signed certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def peer_certificate(port: int) -> bytes:
    """Return the server's certificate at a port; empty while it does not use TLS."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as connection,
            accept_any_certificate().wrap_socket(connection) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""
    except OSError:
        return b""
