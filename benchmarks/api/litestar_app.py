"""Litestar: the framework validates the parameters and encodes the structs."""

from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, Response, delete, get, post, put
from litestar.exceptions import HTTPException, ValidationException
from litestar.params import Parameter

PathId = Annotated[int, Parameter(ge=0, le=2**53 - 1)]
Name = Annotated[str, Parameter(min_length=1, max_length=100)]
Age = Annotated[int, Parameter(ge=0, le=150)]


class Listed(msgspec.Struct):
    name: str
    age: int


class User(msgspec.Struct):
    user_id: int
    name: str
    age: int


users: dict[int, tuple[str, int]] = {}


def invalid(_: Request[Any, Any, Any], error: ValidationException) -> Response[Any]:
    return Response({"detail": error.detail}, status_code=422)


def refused(_: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    return Response({"detail": error.detail}, status_code=error.status_code)


@get("/health")
async def health() -> dict[str, str]:
    return {"status": "healthy"}


@post("/users/")
async def create_user(user_id: PathId, name: Name, age: Age) -> User:
    if user_id in users:
        raise HTTPException(status_code=409, detail=f"User {user_id} already exists")
    users[user_id] = (name, age)
    return User(user_id, name, age)


@get("/users/{user_id:str}")
async def get_user(user_id: PathId) -> User:
    if user_id not in users:
        raise HTTPException(status_code=404, detail=f"User {user_id} not found")
    return User(user_id, *users[user_id])


@get("/users/")
async def list_users() -> dict[int, Listed]:
    return {user_id: Listed(name, age) for user_id, (name, age) in users.items()}


@put("/users/{user_id:str}")
async def update_user(user_id: PathId, name: Name, age: Age) -> User:
    if user_id not in users:
        raise HTTPException(status_code=404, detail=f"User {user_id} not found")
    users[user_id] = (name, age)
    return User(user_id, name, age)


@delete("/users/{user_id:str}")
async def delete_user(user_id: PathId) -> None:
    if users.pop(user_id, None) is None:
        raise HTTPException(status_code=404, detail=f"User {user_id} not found")


app = Litestar(
    [health, create_user, get_user, list_users, update_user, delete_user],
    exception_handlers={ValidationException: invalid, HTTPException: refused},
    openapi_config=None,
    logging_config=None,
)
