"""The world and the check of mission 3: two replicas of the cart behind a load balancer."""

import asyncio
import os

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import Response, World

CARTS = 40
ITEMS, AT_ONCE = 64, 8  # that customers put into one cart, some of them at the same time

MISSION = Mission(
    minutes=15,
    aim="say what makes a process stateless, and why replicas need it",
    prediction=f"{CARTS} customers read their empty cart, put an apple into it, and read it again. "
    "The two replicas get the requests in turn. How many customers do not see their apple?",
    why="The requests alternate between the replicas. So each read went to the replica that had "
    "not got the write, and its own memory was empty.",
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


def said(response: Response) -> str:
    """Return a response in words."""
    if not response.status:
        return "no response: the service raised an exception, see its output"
    return f"{response.status} {response.text[:100]}"


async def start_replicas(world: World, store: str) -> list[str]:
    """Start two replicas, or one without faults; return their URLs."""
    folders = [world.folder / name for name in ("replica1", "replica2")]
    replicas = []
    for folder in folders[: 2 if world.faults else 1]:
        folder.mkdir()  # its own, so that only STORE names a file for both
        replicas.append((await world.serve(folder, STORE=store))[1])
    return replicas


async def check(world: World) -> None:
    """Write and read back through the load balancer; then write into one cart from two sides."""
    store = str(world.folder / "carts.db")
    replicas = await start_replicas(world, store)
    balancer = await world.proxy("customer", *replicas)
    url = f"http://127.0.0.1:{balancer.port}"
    file, unread, lost, shapes = world.file.name, [], [], []
    for number in world.random.sample(range(1000, 10_000), CARTS):
        cart = f"/carts/customer{number}"
        await world.call("GET", url + cart)  # still empty
        written = await world.call("POST", url + cart, item="apple")
        read = await world.call("GET", url + cart)
        both = (written, read)
        shapes += [r.text for r in both if "apple" in r.text and r.body != ["apple"]]
        if written.status == 201 and written.body != ["apple"]:
            lost.append(f"{cart}: the response to POST is {written.text}")
        if written.status != 201 or read.body != ["apple"]:
            unread.append(f"{cart}: POST got {said(written)}, then GET got {said(read)}")
    world.measured = f"{len(unread)} of {CARTS} customers"
    if len(replicas) == 1:
        raise Void("there was one replica, so its memory was enough")
    expected = f"{CARTS} of {CARTS} own writes can be read back, whichever replica responds"
    if shapes:
        seen = f"a response is {shapes[0][:100]}"
        look = f"{file}, items_of: what does it return?"
        raise Fail('a response is a list of texts, such as ["apple"]', seen, look=look)
    if lost:
        seen = f"items that were not in the cart at once after their own write: {len(lost)}"
        raise Fail(expected, seen, lost[0], f"{file}, add: is the write finished?")
    if unread:
        seen = f"own writes that could not be read back: {len(unread)}"
        if not os.path.exists(store):  # noqa: PTH110, ASYNC240 - at once
            seen += ", and the file that STORE names does not exist"
        raise Fail(expected, seen, unread[0], f"{file}: add and items_of")
    await write_together(world, f"{url}/carts/family", file)


async def write_together(world: World, cart: str, file: str) -> None:
    """Put items into one cart, several at the same time. Raises Fail if one is lost."""
    items = [f"item{number}" for number in range(ITEMS)]
    for first in range(0, ITEMS, AT_ONCE):
        some = items[first : first + AT_ONCE]
        await asyncio.gather(*(world.call("POST", cart, item=item) for item in some))
    kept = (await world.call("GET", cart)).body or []
    if missing := [item for item in items if item not in kept]:
        raise Fail(
            f"all {ITEMS} items are in the cart, also if several customers write at the same time",
            f"lost items of one cart: {len(missing)}",
            f"{missing[0]} is missing",
            f"{file}, add: what happens between the read and the write",
        )
