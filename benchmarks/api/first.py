"""The course's first version, written from its description: the baseline.

Plain `def` endpoints, a dict, a log line for each request, the listing built as one object. Its
statuses are those of today's API (201, 204, 404, 409, 422); the first version's differed. As there,
no endpoint declares what it returns, so FastAPI converts each value.
"""

import logging
import os
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query

import people

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)

app = FastAPI()
users_db: dict[int, tuple[str, int]] = {
    user_id: (name, age) for user_id, name, age in people.users(int(os.environ.get("USERS", "0")))
}

PathId = Annotated[int, Path(ge=0, le=2**53 - 1)]
UserId = Annotated[int, Query(ge=0, le=2**53 - 1)]
Name = Annotated[str, Query(min_length=1, max_length=100)]
Age = Annotated[int, Query(ge=0, le=150)]


@app.get("/health")
def health():
    return {"status": "healthy"}


@app.post("/users/", status_code=201)
def create_user(user_id: UserId, name: Name, age: Age):
    logger.info("Creating user %s", user_id)
    if user_id in users_db:
        raise HTTPException(409, f"User {user_id} already exists")
    users_db[user_id] = (name, age)
    return {"user_id": user_id, "name": name, "age": age}


@app.get("/users/{user_id}")
def get_user(user_id: PathId):
    logger.info("Getting user %s", user_id)
    if user_id not in users_db:
        raise HTTPException(404, f"User {user_id} not found")
    name, age = users_db[user_id]
    return {"user_id": user_id, "name": name, "age": age}


@app.get("/users/")
def get_users():
    logger.info("Getting all users")
    return {user_id: {"name": name, "age": age} for user_id, (name, age) in users_db.items()}


@app.put("/users/{user_id}")
def update_user(user_id: PathId, name: Name, age: Age):
    logger.info("Updating user %s", user_id)
    if user_id not in users_db:
        raise HTTPException(404, f"User {user_id} not found")
    users_db[user_id] = (name, age)
    return {"user_id": user_id, "name": name, "age": age}


@app.delete("/users/{user_id}", status_code=204)
def delete_user(user_id: PathId):
    logger.info("Deleting user %s", user_id)
    if user_id not in users_db:
        raise HTTPException(404, f"User {user_id} not found")
    del users_db[user_id]
