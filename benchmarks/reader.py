"""Two clients, started as processes: `reader.py list PORT` and `reader.py ping PORT`.

`list` reads GET /users/ to its end and prints the seconds and the bytes. `ping` asks for /health
every millisecond until its input ends, and prints the longest response time in seconds.
"""

import select
import socket
import sys
import time

PAUSE_SECONDS = 0.001


def request(path: str, connection: str) -> bytes:
    """Return the bytes of a GET request."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n\r\n"
    return head.encode("ascii")


def read_listing(port: int) -> str:
    """Read the listing without parsing it; return the seconds and the bytes."""
    buffer, count = bytearray(1 << 20), 0
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        started = time.perf_counter()
        client.sendall(request("/users/", "close"))
        while received := client.recv_into(buffer):
            if not count and not buffer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not a listing: {bytes(buffer[:200])!r}")
            count += received
        seconds = time.perf_counter() - started
    return f"{seconds} {count}"


def ping(port: int) -> str:
    """Ask for /health again and again on one connection; return the longest time in seconds."""
    longest = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            started = time.perf_counter()
            client.sendall(request("/health", "keep-alive"))
            response = b""
            while b"healthy" not in response:
                response += client.recv(4096)
            longest = max(longest, time.perf_counter() - started)
    return str(longest)


if __name__ == "__main__":
    print({"list": read_listing, "ping": ping}[sys.argv[1]](int(sys.argv[2])))
