"""The cart service, at PORT: POST /carts/NAME?item=apple adds, GET /carts/NAME lists the items."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a SQLite file; two replicas get the same path

carts = {}


def add(cart, item):
    """Put an item into a cart."""
    carts.setdefault(cart, []).append(item)


def items_of(cart):
    """Return the items of a cart."""
    return carts.get(cart, [])


class Cart(BaseHTTPRequestHandler):
    def do_POST(self):
        url = urlsplit(self.path)
        add(url.path, parse_qs(url.query)["item"][0])
        self.respond(201, items_of(url.path))

    def do_GET(self):
        self.respond(200, items_of(self.path))

    def respond(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
