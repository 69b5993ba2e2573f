"""The world and the check of mission 10: many clients add to one number, over two replicas."""

import asyncio

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import Response, World

CLIENTS, TIMES = 8, 15
INCREMENTS = CLIENTS * TIMES
MOST_TRIES = 100  # of one increment

MISSION = Mission(
    minutes=20,
    aim="prevent lost updates with ETag and If-Match, and say where the comparison must happen",
    prediction=f"{CLIENTS} clients each add one apple {TIMES} times, by GET and PUT: {INCREMENTS} "
    "in all. Each PUT gets 200. How many apples does the starter have at the end?",
    why="Between the GET and the PUT of one client, the others write. Its PUT then replaces their "
    "sums by its own old one, and gets 200.",
    result=f"The starter ends with about 20 of {INCREMENTS} apples, the solution with all.",
    board="With ETag and If-Match a client may have to try again. When is a lock better, who holds "
    "it, and what happens if that one dies?",
    hints=(
        "The service cannot know what a client has read. The client must say it, and the service "
        "must compare.",
        "The number itself can be the ETag: f'\"{apples}\"'. Equal carts have equal ETags, in "
        "both replicas. Compare If-Match with the ETag of the stored number.",
        "Between your comparison and your write, the other replica may write. Inside `with db:` "
        'first run db.execute("BEGIN IMMEDIATE"), then read, compare, and write.',
    ),
    real=(
        Real("api/crud.py", "MemoryStore.update", "never waits, so nobody can write in between"),
        Real("api/crud.py", "require_version", "If-Match of the real API: else 412"),
        Real("api/sql.py", "SqlStore._run_writes", "reads, computes, writes if unchanged, retries"),
        Real("api/sql.py", "SqlStore._write_difference", "a condition in each statement"),
    ),
)


def number(response: Response) -> int:
    """Return the number of apples in a response. Raises Fail."""
    if response.status == 200 and response.text.isdigit():
        return int(response.text)
    got = f"{response.status or 'no response'} {response.text[:100] or response.error}"
    raise Fail("the response is 200 and a number", f"got {got}", "", "do_GET and do_PUT")


def if_match(response: Response) -> dict[str, str]:
    """Return the header for a PUT after this response."""
    return {"If-Match": response.headers["etag"]} if "etag" in response.headers else {}


async def add_one(world: World, cart: str) -> bool:
    """Add an apple as a careful client does; return whether it has worked."""
    for _ in range(MOST_TRIES):
        read = await world.call("GET", cart, 10)
        apples = number(read)
        await asyncio.sleep(0.005 + world.random.random() / 200)  # the customer thinks
        headers = if_match(read)
        written = await world.call("PUT", cart, 10, headers=headers, apples=apples + 1)
        if written.status != 412:
            number(written)
            return True
        await asyncio.sleep(world.random.random() / 40)
    return False


async def probe(world: World, file: str, here: str, there: str) -> None:
    """Raise Fail if a cart that only this function uses does not keep the rules."""
    first = await world.call("GET", here)
    number(await world.call("PUT", here, apples=number(first) + 1))
    second, other = await world.call("GET", here), await world.call("GET", there)
    look = f"{file}: the header ETag"
    for each in (first, second, other):
        if "etag" not in each.headers:
            raise Fail("each response to GET has an ETag", "a GET got no ETag", each.text, look)
    tags = [each.headers["etag"] for each in (first, second, other)]
    if tags[1] != tags[2]:
        seen = "the two replicas sent different ETags for the same cart"
        raise Fail("equal carts have equal ETags", seen, f"{tags[1]} and {tags[2]}", look)
    if tags[0] == tags[1]:
        seen = "the ETag stayed the same, although the cart changed"
        example = f"{first.text} and {second.text} apples both have the ETag {tags[0]}"
        raise Fail("the ETag changes when the cart changes", seen, example, look)
    look = f"{file}, do_PUT"
    good = await world.call("PUT", here, headers=if_match(second), apples=number(second) + 5)
    if good.status != 200:
        seen = f"a PUT with the present ETag got {good.status or 'no response'}"
        raise Fail("it gets 200", seen, f"If-Match: {tags[1]}", look)
    old = await world.call("PUT", there, headers=if_match(second), apples=99)
    if old.status != 412:
        seen = f"a PUT with an old ETag got {old.status or 'no response'}"
        raise Fail("it gets 412", seen, f"If-Match: {tags[1]}, after the cart has changed", look)
    if number(await world.call("GET", here)) != number(second) + 5:
        raise Fail("a PUT with 412 changes nothing", "it has changed the cart", old.text, look)
    if (await world.call("PUT", here, apples=3)).status != 200:
        raise Fail("without If-Match, PUT works as before", "it did not get 200", "", look)


async def check(world: World) -> None:
    """Let eight clients add to one cart at the same time; then look at the rules one by one."""
    store = str(world.folder / "carts.db")
    replicas = [(await world.serve(STORE=store))[1] for _ in range(2)]

    async def client(url: str) -> int:
        added = 0
        for _ in range(TIMES):
            if not await add_one(world, f"{url}/carts/family"):
                break
            added += 1
        return added

    if not world.faults:
        await client(replicas[0])
        raise Void("there was one client, so no update could be lost")
    added = await asyncio.gather(*(client(replicas[n % 2]) for n in range(CLIENTS)))
    apples = number(await world.call("GET", f"{replicas[0]}/carts/family"))
    world.measured = f"{apples} of {INCREMENTS} apples"
    file = world.file.name
    here, there = (f"{url}/carts/probe" for url in replicas)
    await probe(world, file, here, there)
    if sum(added) < INCREMENTS:
        seen = f"a client got 412 {MOST_TRIES} times for one increment"
        raise Fail("a client succeeds after some tries", seen, "", f"{file}, do_PUT")
    if apples != INCREMENTS:
        raise Fail(
            f"{INCREMENTS} apples: each increment that got 200 counts",
            f"{INCREMENTS - apples} of the {INCREMENTS} increments were lost, though each got 200",
            "two PUT with the same If-Match, one to each replica, got 200",
            f"{file}, do_PUT: what can happen between the comparison and the write?",
        )
