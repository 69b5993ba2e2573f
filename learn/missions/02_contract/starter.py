"""A small user service at PORT: POST /users/ creates a user, GET /users/ID reads one."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

users = {}


class Users(BaseHTTPRequestHandler):
    def do_POST(self):
        query = dict(parse_qsl(urlsplit(self.path).query))
        user = {"user_id": query["user_id"], "name": query["name"], "age": query["age"]}
        if user["user_id"] in users:
            stored = users[user["user_id"]]
            self.respond(409, {"detail": f"User {user['user_id']} already exists", "user": stored})
        else:
            users[user["user_id"]] = user
            self.respond(201, user)

    def do_GET(self):
        user_id = urlsplit(self.path).path.rpartition("/")[2]
        if user_id in users:
            self.respond(200, users[user_id])
        else:
            self.respond(404, {"detail": f"User {user_id} not found"})

    def respond(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Users).serve_forever()
