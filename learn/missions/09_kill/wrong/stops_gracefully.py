"""Writes the rest when SIGTERM arrives, or at exit. SIGKILL gives no time for either.

Seen: acknowledged items that were lost, each one shortly before a kill: …
"""

import atexit
import json
import os
import queue
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STORE = os.environ["STORE"]  # the path of a SQLite file; it is there again after a restart

waiting = queue.SimpleQueue()  # pairs of cart and item


def connect():
    """Open the store; another thread may hold its lock for a moment."""
    db = sqlite3.connect(STORE, timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS items (cart TEXT, item TEXT)")
    return db


def add(cart, item):
    """Put an item into a cart: `write_later` writes it."""
    waiting.put((cart, item))


def write_later():
    """Write what waits, many items in one transaction."""
    while True:
        time.sleep(0.05)
        write()


def write():
    """Write what waits now."""
    with closing(connect()) as db, db:  # the second `db` commits
        while not waiting.empty():
            db.execute("INSERT INTO items VALUES (?, ?)", waiting.get())


class Cart(BaseHTTPRequestHandler):
    def do_POST(self):
        url = urlsplit(self.path)
        add(url.path, parse_qs(url.query)["item"][0])
        self.respond(201, "added")

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


atexit.register(write)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
threading.Thread(target=write_later, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
