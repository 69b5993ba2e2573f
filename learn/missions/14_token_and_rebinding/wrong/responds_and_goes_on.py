"""Responds in `refusal`, and returns nothing. So the write goes on.

Seen: rejected writes that were stored: …
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
        if host.partition(":")[0] not in ("localhost", "127.0.0.1"):
            self.respond(400, "rejected")
            return
        if self.command == "GET":
            return
        if self.headers.get("Origin", f"http://{host}").lower() != f"http://{host}":
            self.respond(403, "rejected")
            return
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {TOKEN}".encode()):
            self.respond(401, "rejected")
            return

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
