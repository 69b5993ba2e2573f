"""The world and the check of mission 5: responses are lost, and some requests never arrive."""

import asyncio
import re
from collections import Counter
from typing import NoReturn

from learn.missions import Mission, Real
from learn.verdict import Fail
from learn.world import World, require_strikes

PEOPLE = 40
MOST_CONFLICTS = 10 * PEOPLE  # a good program gets about 20 responses with 409

MISSION = Mission(
    minutes=15,
    aim="make a retry safe: the same request again, with the same id",
    prediction=f"Of 100 requests 14 do not arrive, 30 are stored but their response is lost, and "
    f"56 work. The starter sends a new id until a request works. {PEOPLE} people: how many users "
    "are stored at the end?",
    why="The starter counts 56 of 100 requests as done, but 86 store a user. So it stores about "
    f"86/56 of {PEOPLE} people, which is 61; chance adds or takes some.",
    result=f"The starter stores about 60 users for {PEOPLE} people, the solution {PEOPLE}.",
    board="The client cannot know whether its request arrived. Which information, and where, would "
    "help it? Who should choose the id: the client or the server?",
    hints=(
        "The server did it, and the client does not know. What would make the second request "
        "harmless?",
        "Choose the id once for each person, before the first try. Then the API can see that the "
        "request is the same.",
        "The second try may get 409: the id is taken, by your own user. HTTPError is an OSError, "
        "so catch it first, and treat 409 as success.",
    ),
    real=(
        Real(
            "data_ingestion_simulator/client.py",
            "Client._outcome",
            "a 409 after a lost response: compares the stored user with its own",
        ),
        Real(
            "data_ingestion_simulator/client.py",
            "Client.retry",
            "remembers whether an earlier try may have stored the user",
        ),
        Real(
            "api/crud.py", "MemoryStore.create", "the id is the client's: a repeat changes nothing"
        ),
    ),
)


async def conflicts_of(world: World, url: str) -> int:
    """Return how many 409 the API has counted."""
    metrics = (await world.call("GET", f"{url}/metrics")).text
    found = re.search(r'route="/users/",status="409"\} (\d+)', metrics)
    return int(found[1]) if found else 0


async def refuse_endless(world: World, url: str) -> NoReturn:
    """Raise Fail when far more requests got 409 than a good program needs."""
    conflicts = 0
    while conflicts <= MOST_CONFLICTS:
        conflicts = await conflicts_of(world, url)
        await asyncio.sleep(0.1)
    raise Fail(
        "the program ends",
        f"it does not end: the API responded {conflicts} times with 409",
        "the same request gets 409 again and again",
        f"{world.file.name}, create: what does a 409 after a retry say?",
    )


async def check(world: World) -> None:
    """Run the program against the API behind a bad network; count the users of each name."""
    names = [f"person{number}" for number in world.random.sample(range(1000, 10_000), PEOPLE)]
    url = await world.api()
    proxy = await world.proxy("cart", url)
    proxy.set("lose-response", 0.3)
    proxy.set("refuse", 0.2)
    program = await world.start(API_URL=f"http://127.0.0.1:{proxy.port}", NAMES=",".join(names))
    endless = asyncio.create_task(refuse_endless(world, url))
    ended = asyncio.create_task(program.ended(20))
    done, _ = await asyncio.wait({endless, ended}, return_when=asyncio.FIRST_COMPLETED)
    users = (await world.call("GET", f"{url}/users/")).body
    stored = Counter(user["name"] for user in users.values())
    world.measured = f"{stored.total()} users for {PEOPLE} people"
    conflicts = await conflicts_of(world, url)
    after = f", and the API responded {conflicts} times with 409" if conflicts else ""
    file = world.file.name
    if code := await (endless if endless in done else ended):
        at = "at a 409" if conflicts else "before all people were stored"
        raise program.crash(f"it ended with exit code {code} {at}")
    if twice := [name for name in names if stored[name] > 1]:
        ids = [key for key, user in users.items() if user["name"] == twice[0]]
        raise Fail(
            "each person is stored exactly once",
            f"people stored twice or more: {len(twice)}{after}",
            f"{twice[0]} has the ids {', '.join(ids)}",
            f"{file}, create: where the id is chosen",
        )
    if missing := [name for name in names if not stored[name]]:
        raise Fail(
            "each person is stored exactly once",
            f"people who are not stored: {len(missing)}",
            f"{missing[0]} is missing",
            f"{file}, create: what happens after an error",
        )
    require_strikes(proxy, 3, "refuse", "lose-response")
