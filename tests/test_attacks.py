"""What pages of other sites, and other names, may not do: with PUBLIC_URL, and without.

A browser on this machine can be made to send such requests: by a page of another site (a foreign
Origin), or by a name that resolves to this machine (DNS rebinding, a foreign Host).
"""

import base64
import os
import random
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from dashboard import System

ATTACKS = 200
PUBLIC = {"https://good.example": "", "https://hub.example:8443": "/user/me/proxy/8000"}
PUBLIC_URL = ",".join(origin + prefix for origin, prefix in PUBLIC.items())
WRITES = [
    "POST /users/?user_id={n}&name=Mallory&age=66",
    "POST /users/batch",
    "PUT /users/1?name=Mallory&age=66",
    "PATCH /users/1",
    "DELETE /users/1",
]
READS = ["GET /users/", "GET /users/1", "GET /stats/ages", "GET /metrics", "HEAD /users/1"]
# Other ways to write addresses of this machine or of its network.
NUMBERS = ["0.0.0.0", "127.1", "2130706433", "0x7f000001", "[::]", "[::ffff:127.0.0.1]", "10.0.0.7"]


class Attack(NamedTuple):
    """The headers of a request, and what it asks of the API; the dashboard's is its WebSocket."""

    host: str
    origins: tuple[str, ...]
    more: str
    call: str


def disguised(rng: random.Random, name: str) -> str:
    """Return a foreign name that looks like a trusted one."""
    evil = f"x{rng.randrange(10**6)}.evil.example"
    name = name.partition(":")[0]
    forms = [evil, evil.upper(), f"{evil}.", f"{name}.{evil}", f"{name}.evil", f"evil{name}"]
    forms += [f"evil.{name}", f"{name}-evil.example", f"{name}%00.{evil}", f"{name},{evil}"]
    forms += [f"{name}_.{evil}", f"{name}..{evil}"]
    return rng.choice(forms)


def foreign_host(rng: random.Random, trusted: list[str]) -> str:
    """Return a Host header with another name."""
    name, port = disguised(rng, rng.choice(trusted)), rng.choice(["", ":80", ":8000", ":8501"])
    userinfo = [f"{name}@localhost", f"localhost:80@{name}", f"localhost@{name}"]
    paths = [f"{name}/localhost", f"{name}#localhost", f"{name}?localhost", f"{name}:80:80"]
    form = rng.choice([name, name, name, rng.choice(NUMBERS), rng.choice([*userinfo, *paths])])
    return form + port


def foreign_origin(rng: random.Random, trusted: list[str]) -> str:
    """Return an Origin header of another site, or of another port or scheme of a trusted name."""
    name = rng.choice(trusted)
    if rng.random() < 0.2:
        return f"{rng.choice(['http', 'https'])}://{name.partition(':')[0]}:{rng.randrange(1, 80)}"
    host = disguised(rng, name)
    scheme = rng.choice(["http", "https"])
    port = rng.choice(["", ":80", ":443", ":8000", ":8501"])
    userinfo = f"{scheme}://{name}@{host}{port}"
    hidden = [f"{scheme}://{host}/{name}", f"{scheme}://{host}#{name}", f"{scheme}://{host}?{name}"]
    others = ["null", "file://", f"data:text/html,{name}", f"chrome-extension://{'a' * 32}"]
    plain = f"{scheme}://{host}{port}"
    return rng.choice([plain, plain, plain, userinfo, rng.choice(hidden), rng.choice(others)])


def attacks(rng: random.Random, own: str, public: bool) -> Iterator[Attack]:
    """Yield attacks on a service whose own address is `own`. Without PUBLIC_URL it is foreign."""
    named = [origin.partition("://")[2] for origin in PUBLIC]
    local = [own, f"127.0.0.1:{own.partition(':')[2]}"]
    trusted = [*local, *named] if public else local
    while True:
        host = rng.choice(trusted)
        origins: tuple[str, ...] = (foreign_origin(rng, [*local, *named]),)
        call = rng.choice(WRITES)
        kind = rng.choice(["cross-site", "cross-site", "rebinding", "rebinding", "public", "two"])
        if kind == "rebinding":
            host = foreign_host(rng, [*local, *named])
            origins = rng.choice([(), (f"http://{host}",), (f"http://{own}",), origins])
            call = rng.choice([*WRITES, *READS])
        elif kind == "public" and not public:
            address = rng.choice(list(PUBLIC))
            host = rng.choice([own, address.partition("://")[2]])
            origins = (address,)
        elif kind == "two":  # the first or the last one alone would be accepted
            origins = tuple(rng.sample([*origins, f"http://{own}"], 2))
        prefix = rng.choice(["/evil", *filter(None, PUBLIC.values())])
        forwarded = [f"X-Forwarded-Host: {own}", "X-Forwarded-Host: good.example"]
        forwarded += [f"X-Forwarded-Prefix: {prefix}", "Forwarded: host=good.example;proto=https"]
        more = rng.choice(["", "", *forwarded])
        yield Attack(host, origins, more, call.format(n=rng.randrange(2, 10**9)))


def status(port: int, request: str, attack: Attack) -> int:
    """Send a request with the headers of an attack; return the status of its response."""
    lines = [f"{request} HTTP/1.1", f"Host: {attack.host}", "Content-Type: application/json"]
    lines += [f"Origin: {origin}" for origin in attack.origins]
    lines += [attack.more] if attack.more else []
    lines += ["Content-Length: 0"] if "Upgrade:" not in request else []
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        response = connection.recv(65_536).decode("latin-1")
    assert "access-control-allow-origin" not in response.lower(), attack
    return int(response.split(" ", 2)[1])


def opens(port: int, attack: Attack) -> bool:
    """Return whether the dashboard accepts a WebSocket connection with these headers."""
    key = base64.b64encode(os.urandom(16)).decode()
    more = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}"
    more += "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: streamlit"
    with_upgrade = attack._replace(more="\r\n".join(filter(None, [more, attack.more])))
    return status(port, "GET /_stcore/stream", with_upgrade) == 101


@pytest.mark.parametrize("public", [False, True], ids=["local", "public"])
def test_no_attack_succeeds(public: bool) -> None:
    """200 generated attacks on each service are refused, and change nothing."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")
    rng = random.Random(seed)
    variables = {"PUBLIC_URL": PUBLIC_URL} if public else {}
    system = System()
    try:
        system.start_api(**variables)
        system.create(1, age=30)
        url = system.start_dashboard(system.api_url, **variables)
        port = int(url.rpartition(":")[2])
        stored = system.http.get(f"{system.api_url}/users/").json()

        own = f"localhost:{system.api_port}"
        against_api = attacks(rng, own, public)
        for attack in (next(against_api) for _ in range(ATTACKS)):
            assert status(system.api_port, attack.call, attack) in (400, 403), attack
        assert system.http.get(f"{system.api_url}/users/").json() == stored

        own = f"localhost:{port}"
        against_dashboard = attacks(rng, own, public)
        for attack in (next(against_dashboard) for _ in range(ATTACKS)):
            assert not opens(port, attack), attack

        own_page = Attack(own, (f"http://{own}",), "", "")
        assert opens(port, own_page), "void: even its own page cannot connect"
        for origin in PUBLIC:
            page = Attack(origin.partition("://")[2], (origin,), "", "")
            assert opens(port, page) == public
    finally:
        system.close()
