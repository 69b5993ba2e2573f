"""Reads the list, adds the item, and writes the whole list. Two replicas read the same list, and
the second write deletes the item of the first.

Seen: lost items of one cart: …
"""

import json
import os
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a SQLite file; two replicas get the same path


def connect():
    """Open the store; another process may hold its lock for a moment."""
    db = sqlite3.connect(STORE, timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS carts (cart TEXT PRIMARY KEY, items TEXT)")
    return db


def add(cart, item):
    """Put an item into a cart."""
    items = [*items_of(cart), item]
    with closing(connect()) as db, db:  # the second `db` commits
        db.execute("INSERT OR REPLACE INTO carts VALUES (?, ?)", (cart, json.dumps(items)))


def items_of(cart):
    """Return the items of a cart."""
    with closing(connect()) as db:
        row = db.execute("SELECT items FROM carts WHERE cart = ?", (cart,)).fetchone()
        return json.loads(row[0]) if row else []


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
