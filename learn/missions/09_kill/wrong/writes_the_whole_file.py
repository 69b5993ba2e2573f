"""Writes all items again, over the old file. A kill in the middle leaves half a file.

Seen: after a kill the service could not start again
"""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a file; it is there again after a restart

items = []
if os.path.exists(STORE):
    with open(STORE) as old:
        items = json.load(old)
lock = threading.Lock()


def add(cart, item):
    """Put an item into a cart, and write all items."""
    with lock:
        items.append([cart, item])
        text = json.dumps(items)
        with open(STORE, "w") as file:
            for half in (text[: len(text) // 2], text[len(text) // 2 :]):
                file.write(half)
                file.flush()
                time.sleep(0.005)  # the disk is busy


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
