"""Takes a file name of its own for STORE. The service starts again in another folder, and finds
nothing.

Seen: and the file that STORE names does not exist
"""

import json
import os
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = "store.db"


def connect():
    """Open the store; another thread may hold its lock for a moment."""
    db = sqlite3.connect(STORE, timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS items (cart TEXT, item TEXT)")
    return db


def add(cart, item):
    """Put an item into a cart; it is in the store when this function returns."""
    with closing(connect()) as db, db:  # the second `db` commits
        db.execute("INSERT INTO items VALUES (?, ?)", (cart, item))


class Cart(BaseHTTPRequestHandler):
    def do_POST(self):
        url = urlsplit(self.path)
        add(url.path, parse_qs(url.query)["item"][0])
        self.respond(201, "added")  # after the commit

    def do_GET(self):
        with closing(connect()) as db:
            rows = db.execute("SELECT item FROM items WHERE cart = ?", (self.path,))
            self.respond(200, [item for (item,) in rows])

    def respond(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
