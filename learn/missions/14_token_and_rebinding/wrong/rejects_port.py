"""Compares Host with the name alone. But a browser sends the port, too.

Seen: allowed requests that were rejected: …
"""

import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = os.environ["TOKEN"]  # of those who may write

carts = {}


class Cart(BaseHTTPRequestHandler):
    def refusal(self):
        """Return the status with which a request is rejected, or None."""
        host = self.headers["Host"].lower()
        if host not in ("localhost", "127.0.0.1"):
            return 400
        if self.command == "GET":
            return None
        if self.headers.get("Origin", f"http://{host}").lower() != f"http://{host}":
            return 403
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {TOKEN}".encode()):
            return 401
        return None

    def do_POST(self):
        if status := self.refusal():
            self.respond(status, "rejected")
            return
        url = urlsplit(self.path)
        carts.setdefault(url.path, []).append(parse_qs(url.query)["item"][0])
        self.respond(201, "added")

    def do_GET(self):
        if status := self.refusal():
            self.respond(status, "rejected")
            return
        self.respond(200, carts.get(self.path, []))

    def respond(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
