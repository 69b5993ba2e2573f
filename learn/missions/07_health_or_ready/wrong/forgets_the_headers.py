"""Sends no end of the headers. The client waits for more headers, and the connection ends.

Seen: /health gave no valid response with a working database
"""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

DATABASE = os.environ["DATABASE"]  # such as http://127.0.0.1:5432/


def ask_database():
    """Return when the database has responded. Raises OSError."""
    urlopen(DATABASE, timeout=1).close()


class Cart(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":  # the process is alive: no other service is asked
            self.respond(200)
            return
        try:
            ask_database()
            self.respond(200)
        except OSError:
            self.respond(503)

    def respond(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
