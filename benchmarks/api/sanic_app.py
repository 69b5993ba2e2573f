"""Sanic, on its own server; its own code checks the bounds."""

import sys
from typing import Any

from sanic import HTTPResponse, Request, Sanic, empty, json

import rules

app = Sanic("users", configure_logging=False)
app.config.MOTD = False
app.config.ACCESS_LOG = False
users: dict[int, tuple[str, int]] = {}


@app.exception(rules.Invalid)
async def invalid(*_: Any) -> HTTPResponse:
    return json({"detail": "invalid"}, 422)


def missing(user_id: int) -> HTTPResponse:
    return json({"detail": f"User {user_id} not found"}, 404)


@app.get("/health")
async def health(_: Request) -> HTTPResponse:
    return json({"status": "healthy"})


@app.post("/users/")
async def create_user(request: Request) -> HTTPResponse:
    query = request.args
    user_id = rules.user_id(query.get("user_id"))
    name, age = rules.name(query.get("name")), rules.age(query.get("age"))
    if user_id in users:
        return json({"detail": f"User {user_id} already exists"}, 409)
    users[user_id] = (name, age)
    return json({"user_id": user_id, "name": name, "age": age}, 201)


@app.get("/users/<user_id>")
async def get_user(_: Request, user_id: str) -> HTTPResponse:
    number = rules.user_id(user_id)
    if number not in users:
        return missing(number)
    name, age = users[number]
    return json({"user_id": number, "name": name, "age": age})


@app.get("/users/")
async def list_users(_: Request) -> HTTPResponse:
    return json({user_id: {"name": name, "age": age} for user_id, (name, age) in users.items()})


@app.put("/users/<user_id>")
async def update_user(request: Request, user_id: str) -> HTTPResponse:
    number, query = rules.user_id(user_id), request.args
    name, age = rules.name(query.get("name")), rules.age(query.get("age"))
    if number not in users:
        return missing(number)
    users[number] = (name, age)
    return json({"user_id": number, "name": name, "age": age})


@app.delete("/users/<user_id>")
async def delete_user(_: Request, user_id: str) -> HTTPResponse:
    number = rules.user_id(user_id)
    if users.pop(number, None) is None:
        return missing(number)
    return empty()


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), single_process=True)
