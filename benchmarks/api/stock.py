"""FastAPI as its documentation teaches it: async endpoints, bounds, models; no access log."""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query
from pydantic import BaseModel

PathId = Annotated[int, Path(ge=0, le=2**53 - 1)]
UserId = Annotated[int, Query(ge=0, le=2**53 - 1)]
Name = Annotated[str, Query(min_length=1, max_length=100)]
Age = Annotated[int, Query(ge=0, le=150)]


class Health(BaseModel):
    status: str


class Listed(BaseModel):
    name: str
    age: int


class User(Listed):
    user_id: int


app = FastAPI()
users: dict[int, tuple[str, int]] = {}


@app.get("/health")
async def health() -> Health:
    return Health(status="healthy")


@app.post("/users/", status_code=201)
async def create_user(user_id: UserId, name: Name, age: Age) -> User:
    if user_id in users:
        raise HTTPException(409, f"User {user_id} already exists")
    users[user_id] = (name, age)
    return User(user_id=user_id, name=name, age=age)


@app.get("/users/{user_id}")
async def get_user(user_id: PathId) -> User:
    if user_id not in users:
        raise HTTPException(404, f"User {user_id} not found")
    name, age = users[user_id]
    return User(user_id=user_id, name=name, age=age)


@app.get("/users/")
async def list_users() -> dict[int, Listed]:
    return {user_id: Listed(name=name, age=age) for user_id, (name, age) in users.items()}


@app.put("/users/{user_id}")
async def update_user(user_id: PathId, name: Name, age: Age) -> User:
    if user_id not in users:
        raise HTTPException(404, f"User {user_id} not found")
    users[user_id] = (name, age)
    return User(user_id=user_id, name=name, age=age)


@app.delete("/users/{user_id}", status_code=204)
async def delete_user(user_id: PathId) -> None:
    if users.pop(user_id, None) is None:
        raise HTTPException(404, f"User {user_id} not found")
