"""BlackSheep: the framework reads the parameters; its own code checks the bounds."""

from typing import Any

from blacksheep import Application, Request, Response, delete, get, json, post, put

import rules

app = Application()
users: dict[int, tuple[str, int]] = {}


@app.exception_handler(rules.Invalid)
async def invalid(*_: Any) -> Response:
    return json({"detail": "invalid"}, 422)


def first(request: Request, name: str) -> str | None:
    return (request.query.get(name) or [None])[0]


def missing(user_id: int) -> Response:
    return json({"detail": f"User {user_id} not found"}, 404)


@get("/health")
async def health() -> Response:
    return json({"status": "healthy"})


@post("/users/")
async def create_user(request: Request) -> Response:
    user_id = rules.user_id(first(request, "user_id"))
    name, age = rules.name(first(request, "name")), rules.age(first(request, "age"))
    if user_id in users:
        return json({"detail": f"User {user_id} already exists"}, 409)
    users[user_id] = (name, age)
    return json({"user_id": user_id, "name": name, "age": age}, 201)


@get("/users/{user_id}")
async def get_user(user_id: str) -> Response:
    number = rules.user_id(user_id)
    if number not in users:
        return missing(number)
    name, age = users[number]
    return json({"user_id": number, "name": name, "age": age})


@get("/users/")
async def list_users() -> Response:
    return json({user_id: {"name": name, "age": age} for user_id, (name, age) in users.items()})


@put("/users/{user_id}")
async def update_user(request: Request, user_id: str) -> Response:
    number = rules.user_id(user_id)
    name, age = rules.name(first(request, "name")), rules.age(first(request, "age"))
    if number not in users:
        return missing(number)
    users[number] = (name, age)
    return json({"user_id": number, "name": name, "age": age})


@delete("/users/{user_id}")
async def delete_user(user_id: str) -> Response:
    number = rules.user_id(user_id)
    if users.pop(number, None) is None:
        return missing(number)
    return Response(204)
