"""The world and the check of mission 10: many clients add to one number, over two replicas."""

import asyncio
import re

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
        "The number itself can be the ETag: f'\"{apples}\"'. Then both replicas send the same one. "
        "After 5, 6, 5 it is the first one again; that does no harm, because the cart is the same, "
        "too. Compare If-Match with the ETag of the stored number.",
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


def number(response: Response, request: str) -> int:
    """Return the number of apples in a response. Raises Fail."""
    if response.status == 200 and response.text.isdigit():
        return int(response.text)
    got = f"{response.status or 'no response'}: {response.text[:100] or response.error}"
    look = "do_GET" if request == "GET" else "do_PUT"
    raise Fail(f"{request} gets 200 and a number", f"{request} got {got}", look=look)


def if_match(response: Response) -> dict[str, str]:
    """Return the header for a PUT after this response."""
    return {"If-Match": response.headers["etag"]} if "etag" in response.headers else {}


async def add_one(world: World, cart: str, most_tries: int) -> bool:
    """Add an apple as a careful client does; return whether it has worked."""
    for _ in range(most_tries):
        read = await world.call("GET", cart, 10)
        apples = number(read, "GET")
        await asyncio.sleep(0.005 + world.random.random() / 200)  # the customer thinks
        headers = if_match(read)
        written = await world.call("PUT", cart, 10, headers=headers, apples=apples + 1)
        if written.status != 412:
            number(written, "PUT with If-Match" if headers else "PUT")
            return True
        await asyncio.sleep(world.random.random() / 40)
    return False


async def probe(world: World, file: str, here: str, there: str) -> None:
    """Raise Fail if a cart that only this function uses does not keep the rules."""
    look = f"{file}, do_PUT"
    tags = []
    for apples, url in ((1, here), (2, here), (2, there)):
        number(await world.call("PUT", here, apples=apples), "PUT without If-Match")
        read = await world.call("GET", url)
        if number(read, "GET") != apples:
            example = f"after PUT ?apples={apples}, GET got {read.text}"
            raise Fail(
                "GET gives the number of the last PUT", "a PUT was not stored", example, look
            )
        tags.append(tag_of(read, file))
    if tags[1] != tags[2]:
        seen = "the two replicas sent different ETags for the same cart"
        example = f"{tags[1]} and {tags[2]}"
        raise Fail("a cart has the same ETag at both replicas", seen, example, f"{file}: ETag")
    if tags[0] == tags[1]:
        seen = "the ETag stayed the same, although the cart changed"
        example = f"1 apple and 2 apples both have the ETag {tags[0]}"
        raise Fail("the ETag changes when the cart changes", seen, example, f"{file}: ETag")
    headers = {"If-Match": tags[1]}
    good = await world.call("PUT", here, headers=headers, apples=7)
    if good.status != 200:
        seen = f"a PUT with the present ETag got {good.status or 'no response'}"
        raise Fail("it gets 200", seen, f"If-Match: {tags[1]}", look)
    old = await world.call("PUT", there, headers=headers, apples=99)
    if old.status != 412:
        seen = f"a PUT with an old ETag got {old.status or 'no response'}"
        raise Fail("it gets 412", seen, f"If-Match: {tags[1]}, after the cart has changed", look)
    if (now := number(await world.call("GET", here), "GET")) != 7:
        seen = "a PUT got 412, and has changed the cart"
        raise Fail("a PUT with 412 changes nothing", seen, f"before: 7, now: {now}", look)
    number(await world.call("PUT", here, apples=3), "PUT without If-Match")


def tag_of(response: Response, file: str) -> str:
    """Return the ETag of a response to GET. Raises Fail."""
    tag, look = response.headers.get("etag", ""), f"{file}: the header ETag"
    if not tag:
        example = f"GET got 200 and the body {response.text}, without the header ETag"
        raise Fail("each response to GET has an ETag", "a GET got no ETag", example, look)
    if not re.fullmatch('"[^"]+"', tag):
        seen = f"an ETag has no quotation marks: {tag}"
        raise Fail('an ETag has quotation marks, such as "7"', seen, look=look)
    return tag


async def check(world: World) -> None:
    """Let eight clients add to one cart at the same time; then look at the rules one by one."""
    store = str(world.folder / "carts.db")
    replicas = [(await world.serve(STORE=store))[1] for _ in range(2)]

    file = world.file.name
    here, there = (f"{url}/carts/probe" for url in replicas)
    broken: Fail | None = None
    try:
        await probe(world, file, here, there)
    except Fail as fail:
        broken = fail  # first measure what the prediction asks for

    async def client(url: str) -> int:
        added = 0
        for _ in range(TIMES):
            if not await add_one(world, f"{url}/carts/family", 3 if broken else MOST_TRIES):
                break
            added += 1
        return added

    if not world.faults:
        await client(replicas[0])
        raise Void("there was one client, so no update could be lost")
    try:
        added = await asyncio.gather(*(client(replicas[n % 2]) for n in range(CLIENTS)))
        read = await world.call("GET", f"{replicas[0]}/carts/family")
        apples = number(read, "GET")
    except Fail as fail:
        raise broken or fail from None
    world.measured = f"{apples} of {INCREMENTS} apples"
    if broken:
        raise broken
    judge(sum(added), apples, file)


def judge(added: int, apples: int, file: str) -> None:
    """Raise Fail if an increment did not succeed, or was lost."""
    if added < INCREMENTS:
        seen = f"a client got 412 {MOST_TRIES} times for one increment"
        raise Fail("a client succeeds after some tries", seen, "", f"{file}, do_PUT")
    if apples != INCREMENTS:
        raise Fail(
            f"{INCREMENTS} apples: each increment that got 200 counts",
            f"increments that were lost, though each got 200: {INCREMENTS - apples}",
            "two PUT with the same If-Match, one to each replica, got 200",
            f"{file}, do_PUT: what can happen between the comparison and the write?",
        )
