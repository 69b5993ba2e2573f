"""Uses `int` as the only test. It also accepts 1_0, +5, spaces and the digits of other scripts.

Seen: not in plain digits: got 201
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

users = {}


def number(text, largest):
    """Return a number that is written in plain digits. Raises ValueError."""
    if not 0 <= int(text) <= largest:
        raise ValueError(f"{text!r} is not a number from 0 to {largest}")
    return int(text)


def parameters(path, *names):
    """Return the parameters, each of `names` exactly once. Raises ValueError."""
    pairs = parse_qsl(urlsplit(path).query, keep_blank_values=True)
    if sorted(name for name, _ in pairs) != sorted(names):
        raise ValueError(f"the parameters are {names}, each once")
    return dict(pairs)


class Users(BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            query = parameters(self.path, "user_id", "name", "age")
            user_id, age = number(query["user_id"], 2**53 - 1), number(query["age"], 150)
            if not query["name"].strip() or len(query["name"]) > 100:
                raise ValueError("a name has 1 to 100 characters, not only spaces")
        except ValueError as error:
            return self.respond(422, {"detail": str(error)})
        if user_id in users:
            detail = f"User {user_id} already exists"
            return self.respond(409, {"detail": detail, "user": users[user_id]})
        users[user_id] = {"user_id": user_id, "name": query["name"], "age": age}
        return self.respond(201, users[user_id])

    def do_GET(self):
        try:
            parameters(self.path)
            user_id = number(urlsplit(self.path).path.rpartition("/")[2], 2**53 - 1)
        except ValueError as error:
            return self.respond(422, {"detail": str(error)})
        if user_id in users:
            return self.respond(200, users[user_id])
        return self.respond(404, {"detail": f"User {user_id} not found"})

    def respond(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Users).serve_forever()
