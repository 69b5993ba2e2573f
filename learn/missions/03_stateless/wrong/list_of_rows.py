"""Returns the rows of the database. A row is a tuple, and JSON makes a list of it.

Seen: a response is [["apple"]]
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
    db.execute("CREATE TABLE IF NOT EXISTS items (cart TEXT, item TEXT)")
    return db


def add(cart, item):
    """Put an item into a cart."""
    with closing(connect()) as db, db:  # the second `db` commits
        db.execute("INSERT INTO items VALUES (?, ?)", (cart, item))


def items_of(cart):
    """Return the items of a cart."""
    with closing(connect()) as db:
        return db.execute("SELECT item FROM items WHERE cart = ?", (cart,)).fetchall()


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
