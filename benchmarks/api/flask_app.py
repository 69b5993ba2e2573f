"""Flask, for gunicorn; its own code checks the bounds."""

from typing import Any

from flask import Flask, request

import rules

app = Flask(__name__)
users: dict[int, tuple[str, int]] = {}
Response = tuple[Any, int]


@app.errorhandler(rules.Invalid)
def invalid(_: rules.Invalid) -> Response:
    return {"detail": "invalid"}, 422


def missing(user_id: int) -> Response:
    return {"detail": f"User {user_id} not found"}, 404


@app.get("/health")
def health() -> Response:
    return {"status": "healthy"}, 200


@app.post("/users/")
def create_user() -> Response:
    user_id = rules.user_id(request.args.get("user_id"))
    name, age = rules.name(request.args.get("name")), rules.age(request.args.get("age"))
    if user_id in users:
        return {"detail": f"User {user_id} already exists"}, 409
    users[user_id] = (name, age)
    return {"user_id": user_id, "name": name, "age": age}, 201


@app.get("/users/<user_id>")
def get_user(user_id: str) -> Response:
    number = rules.user_id(user_id)
    if number not in users:
        return missing(number)
    name, age = users[number]
    return {"user_id": number, "name": name, "age": age}, 200


@app.get("/users/")
def list_users() -> Response:
    return {user_id: {"name": name, "age": age} for user_id, (name, age) in users.items()}, 200


@app.put("/users/<user_id>")
def update_user(user_id: str) -> Response:
    number = rules.user_id(user_id)
    name, age = rules.name(request.args.get("name")), rules.age(request.args.get("age"))
    if number not in users:
        return missing(number)
    users[number] = (name, age)
    return {"user_id": number, "name": name, "age": age}, 200


@app.delete("/users/<user_id>")
def delete_user(user_id: str) -> Response:
    number = rules.user_id(user_id)
    if users.pop(number, None) is None:
        return missing(number)
    return "", 204
