"""The calls about one user, the numbers and the probes: one function for each call.

The calls about many users are in batch.py and listing.py.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

import models
from crud import Record, version
from errors import RETRY_AFTER
from fast_route import FastRoute

calls = APIRouter(route_class=FastRoute)


async def get_store(request: Request) -> Any:
    """Return the store that the app was assembled with: a MemoryStore or an SqlStore."""
    return request.app.state.store


Store = Annotated[Any, Depends(get_store)]


@calls.post("/users", include_in_schema=False, status_code=201)
@calls.post("/users/", status_code=201)
async def create_user(
    user_id: models.UserId, name: models.Name, age: models.Age, store: Store, response: Response
) -> models.User:
    """Create a user. You choose the id, so you may repeat it: 409 shows the user who has the id."""
    await store.create(user_id, name, age)
    response.headers["Location"] = f"/users/{user_id}"
    response.headers["ETag"] = f'"{version(Record(name, age))}"'
    return models.User(user_id=user_id, name=name, age=age)


@calls.get("/users/{user_id}")
async def get_user(user_id: models.UserId, store: Store, response: Response) -> models.User:
    """Get one user."""
    user = await store.get(user_id)
    response.headers["ETag"] = f'"{version(user)}"'
    return models.User(user_id=user_id, name=user.name, age=user.age)


@calls.put("/users/{user_id}")
async def update_user(
    user_id: models.UserId,
    name: models.Name,
    age: models.Age,
    store: Store,
    response: Response,
    if_match: models.IfMatch = None,
) -> models.User:
    """Replace a user's name and age; with If-Match, only if nobody else has changed them."""
    await store.update(user_id, name, age, models.versions_in(if_match))
    response.headers["ETag"] = f'"{version(Record(name, age))}"'
    return models.User(user_id=user_id, name=name, age=age)


@calls.delete("/users/{user_id}", status_code=204)
async def delete_user(
    user_id: models.UserId, store: Store, if_match: models.IfMatch = None
) -> None:
    """Delete a user; with If-Match, only if nobody else has changed it."""
    await store.delete(user_id, models.versions_in(if_match))


@calls.get("/stats/ages")
async def count_ages(store: Store) -> models.AgeCounts:
    """Count users by age. Each write keeps the counts up to date: any size costs the same."""
    ages = await store.age_counts()
    return models.AgeCounts(total=sum(ages.values()), ages=ages)


@calls.get("/health")
async def health() -> models.Health:
    """Say that the process is alive. No other service is asked, so only a restart can help."""
    return models.Health(status="healthy")


@calls.get("/ready")
async def ready(request: Request, store: Store) -> models.Readiness:
    """Say whether to send requests here, and whether users outlive the process."""
    if request.app.state.shutdown.stopping.is_set():
        raise HTTPException(503, "The process is stopping", RETRY_AFTER[503])
    await store.check()
    return models.Readiness(status="ready", store=store.kind, durable=store.durable)


@calls.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Lead a browser to the documentation."""
    return RedirectResponse("/docs")
