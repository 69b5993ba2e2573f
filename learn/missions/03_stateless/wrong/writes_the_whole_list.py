"""Reads the list, adds the item, and writes the whole list. Two replicas overwrite each other.

Seen: … items of one cart are lost
"""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a SQLite file; two replicas get the same path


def items_of(cart):
    """Return the items of a cart."""
    if not os.path.exists(STORE):
        return []
    with open(STORE) as file:
        return json.load(file).get(cart, [])


def add(cart, item):
    """Put an item into a cart: read all carts, and write all carts."""
    carts = {}
    if os.path.exists(STORE):
        with open(STORE) as file:
            carts = json.load(file)
    carts[cart] = [*carts.get(cart, []), item]
    time.sleep(0.02)  # it looks up the price
    with open(f"{STORE}.{threading.get_ident()}.{os.getpid()}", "w") as file:
        json.dump(carts, file)
    os.replace(file.name, STORE)


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
