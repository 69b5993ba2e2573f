"""Opens a database in memory for each request. Nothing is stored.

Seen: a PUT was not stored
"""

import os
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a SQLite file; two replicas get the same path


def connect():
    """Open the store; another process may hold its lock for a moment."""
    db = sqlite3.connect(":memory:", timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS carts (cart TEXT PRIMARY KEY, apples INTEGER)")
    return db


def read(db, cart):
    """Return the number of apples in a cart."""
    row = db.execute("SELECT apples FROM carts WHERE cart = ?", (cart,)).fetchone()
    return row[0] if row else 0


def etag(apples):
    """Return the ETag of a cart: equal carts have equal ones, in each replica."""
    return f'"{apples}"'


class Cart(BaseHTTPRequestHandler):
    def do_GET(self):
        with closing(connect()) as db:
            self.respond(200, read(db, self.path))

    def do_PUT(self):
        url = urlsplit(self.path)
        apples = int(parse_qs(url.query)["apples"][0])
        with closing(connect()) as db:
            with db:  # commits at its end
                db.execute("BEGIN IMMEDIATE")  # locks the store: nobody else writes meanwhile
                stored = read(db, url.path)
                matches = self.headers.get("If-Match", etag(stored)) == etag(stored)
                if matches:
                    db.execute("REPLACE INTO carts VALUES (?, ?)", (url.path, apples))
            self.respond(200 if matches else 412, apples if matches else stored)

    def respond(self, status, apples):
        data = str(apples).encode()
        self.send_response(status)
        self.send_header("ETag", etag(apples))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
