"""The world and the check of mission 3: two replicas of the cart behind a load balancer."""

import asyncio

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

CARTS = 40
ITEMS = 20  # that two customers put into one cart at the same time

MISSION = Mission(
    minutes=15,
    aim="say what makes a process stateless, and why replicas need it",
    prediction=f"A customer writes {CARTS} times and reads each write back. The two replicas get "
    "requests in turn. How many writes can the starter not read back?",
    result="The starter cannot read back a single write; the solution reads back all of them.",
    board="A load balancer can send each customer always to the same replica. Which problems does "
    "that solve, and which does it leave?",
    hints=(
        "Both replicas may only share what is outside of them: here the file STORE.",
        "Use sqlite3 from the standard library: one table with the columns cart and item, one "
        "INSERT for each item.",
        "Open a connection in each call: `with closing(sqlite3.connect(STORE, timeout=10)) as db, "
        "db:`. The second `db` commits at the end. Do not keep in memory what you have read.",
    ),
    real=(
        Real("api/crud.py", "MemoryStore", "the store in memory: not stateless, and it says so"),
        Real("api/main.py", "open_store", "in memory for one process, in a database for replicas"),
        Real("api/sql.py", "SqlStore", "the same verbs in a database"),
    ),
)


async def check(world: World) -> None:
    """Write and read back through the load balancer; then write into one cart from two sides."""
    store = str(world.folder / "carts.db")
    replicas = [(await world.serve(STORE=store))[1] for _ in range(2 if world.faults else 1)]
    balancer = await world.proxy("customer", *replicas)
    url = f"http://127.0.0.1:{balancer.port}"
    file, unread, lost = world.file.name, [], []
    for number in world.random.sample(range(1000, 10_000), CARTS):
        cart = f"/carts/customer{number}"
        await world.call("GET", url + cart)  # still empty
        written = await world.call("POST", url + cart, item="apple")
        read = await world.call("GET", url + cart)
        if written.status == 201 and written.body != ["apple"]:
            lost.append(f"{cart}: the response to POST is {written.text}")
        if written.status != 201 or read.body != ["apple"]:
            unread.append(f"{cart}: written {written.status}, read {read.text or read.error}")
    world.measured = f"{len(unread)} of {CARTS}"
    if len(replicas) == 1:
        raise Void("there was one replica, so its memory was enough")
    expected = f"{CARTS} of {CARTS} own writes can be read back, whichever replica responds"
    if lost:
        seen = f"{len(lost)} items were not in the cart at once after their own write"
        raise Fail(expected, seen, lost[0], f"{file}, add: is the write finished?")
    if unread:
        seen = f"{len(unread)} own writes could not be read back"
        raise Fail(expected, seen, unread[0], f"{file}: add and items_of")
    items = [f"item{number}" for number in range(ITEMS)]
    cart = f"{url}/carts/family"
    await asyncio.gather(*(world.call("POST", cart, item=item) for item in items[:4]))
    for first in range(4, ITEMS, 4):
        four = items[first : first + 4]
        await asyncio.gather(*(world.call("POST", cart, item=item) for item in four))
    kept = (await world.call("GET", cart)).body or []
    if missing := [item for item in items if item not in kept]:
        raise Fail(
            f"{ITEMS} items are in the cart, whoever writes at the same time",
            f"{len(missing)} items of one cart are lost",
            f"{missing[0]} is missing",
            f"{file}, add: what happens between the read and the write",
        )
