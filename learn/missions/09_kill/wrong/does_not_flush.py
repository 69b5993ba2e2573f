"""Writes each item into a file, but does not flush it. SIGKILL deletes Python's buffer.

Seen: there was not one of the … acknowledged items
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a file; it is there again after a restart

items = []
if os.path.exists(STORE):
    with open(STORE) as old:
        items = [json.loads(line) for line in old]
file = open(STORE, "a")  # noqa: SIM115 - open as long as the service runs
lock = threading.Lock()


def add(cart, item):
    """Put an item into a cart, and append a line to the file."""
    with lock:
        items.append([cart, item])
        file.write(json.dumps([cart, item]) + "\n")


class Cart(BaseHTTPRequestHandler):
    def do_POST(self):
        url = urlsplit(self.path)
        add(url.path, parse_qs(url.query)["item"][0])
        self.respond(201, "added")

    def do_GET(self):
        with lock:
            self.respond(200, [item for cart, item in items if cart == self.path])

    def respond(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
