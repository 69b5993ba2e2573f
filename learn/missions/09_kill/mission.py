"""The world and the check of mission 9: the service is killed twenty times, and starts again."""

import asyncio
from dataclasses import dataclass, field

from learn.missions import Mission, Real
from learn.program import Program
from learn.verdict import Fail, Void
from learn.world import Response, World

SHOPS = 4  # services at the same time, each with its own store
KILLS = 5  # of each of them
CUSTOMERS = 3  # that write into one shop's cart at the same time

MISSION = Mission(
    minutes=15,
    aim="say what an acknowledgement promises, and write before responding",
    prediction=f"The starter writes each item at most 50 ms after its response. It is killed "
    f"{SHOPS * KILLS} times. How many of about 500 acknowledged items are lost?",
    why="The starter says 201 up to 50 ms before the item is in the store. Each of the 20 kills "
    "deletes what was waiting in memory at that moment. A power failure would also end the kernel: "
    "then `PRAGMA synchronous` matters, too, and this mission does not test it.",
    result="The starter loses dozens to hundreds of acknowledged items; the solution loses none, "
    "and needs no fsync for that: what a process gave to the kernel survives the process.",
    board="SIGKILL ends a process, a power failure ends the kernel, too. Which of your writes "
    "survive the first, and which the second?",
    hints=(
        "When may a service say 201: before, or after the item is safe?",
        "Python's buffers and queues are memory of the process: a kill deletes them. A finished "
        "transaction of SQLite is outside of the process.",
        "Without the thread: in `add`, `with closing(connect()) as db, db: db.execute(INSERT …)`. "
        "The commit happens at the end of `with`, and `respond` comes after it.",
    ),
    real=(
        Real("api/crud.py", "MemoryStore.create", "not durable: a kill deletes the dict"),
        Real("api/database.py", "Worker._finish_group", "a group of requests gets its results"),
        Real("api/sql.py", "SqlStore._run_writes", "many writes share a commit, and wait for it"),
    ),
)


@dataclass
class Shop:
    """What one service has acknowledged, and how its store looked after each kill."""

    number: int
    lives: list[list[str]] = field(default_factory=list)  # what was acknowledged in each life
    found: list[set[str]] = field(default_factory=list)  # what was there after each kill

    def acknowledged(self) -> list[str]:
        """Return all acknowledged items, in the order of their responses."""
        return [item for life in self.lives for item in life]

    def lost(self) -> list[str]:
        """Return the acknowledged items that were not there after the last kill."""
        last = self.found[-1] if self.found else set()
        return [item for item in self.acknowledged() if item not in last]


async def one_life(world: World, shop: Shop) -> None:
    """Start the service, see what it has, put items into the cart, and kill it on the way."""
    program, cart = await start(world, shop)
    life: list[str] = []
    shop.lives.append(life)
    enough, is_killed = world.random.randrange(10, 35), False
    pause = world.random.random() / 100

    async def customer(name: int) -> None:
        for number in range(enough):
            item = f"apple-{len(shop.lives)}-{name}-{number}"
            response = await world.call("POST", cart, item=item)
            if response.status == 201:
                life.append(item)
            elif is_killed:
                return
            else:
                refuse(world.file.name, response)
            await asyncio.sleep(0.01)

    customers = asyncio.gather(*(customer(number) for number in range(CUSTOMERS)))

    async def is_enough() -> bool:
        return len(life) >= enough or customers.done()

    await world.until(is_enough, 20, 0.001)
    if not world.faults:
        await customers
        raise Void("nobody killed the service")
    await asyncio.sleep(pause)  # some requests are in the middle of their work now
    is_killed = True
    program.kill()
    await customers
    await program.ended(5)


def refuse(file: str, response: Response) -> None:
    """Raise Fail: the service did not acknowledge an item."""
    raise Fail(
        "POST /carts/NAME?item=… gets 201",
        f"it got {response.status or 'no response'}, though nobody had killed it",
        response.text[:200] or response.error,
        f"{file}, do_POST",
    )


async def start(world: World, shop: Shop) -> tuple[Program, str]:
    """Start a service, and note what its store has; return it and a cart's URL. Raises Fail."""
    store = str(world.folder / f"store{shop.number}")
    folder = world.folder / f"shop{shop.number}-{len(shop.lives)}"  # a new one for each start
    folder.mkdir()
    try:
        program, url = await world.serve(folder, STORE=store)
    except Fail as fail:
        if not shop.lives:
            raise
        expected = "it starts again with all that it had stored"
        seen = f"after a kill the service could not start again: {fail.seen}"
        raise Fail(expected, seen, fail.example, fail.look) from None
    if shop.lives:
        response = await world.call("GET", f"{url}/carts/family")
        items = response.body
        if response.status != 200 or not isinstance(items, list):
            got = f"it got {response.status or 'no response'}, and no list of items"
            example = response.text[:200] or response.error
            look = f"{world.file.name}, do_GET"
            raise Fail("GET /carts/NAME gets 200 and a list of items", got, example, look)
        shop.found.append(set(map(str, items)))
    return program, f"{url}/carts/family"


async def lives(world: World, shop: Shop) -> None:
    """Kill a service several times; then see what its store has. Raises Fail."""
    for _ in range(KILLS):
        await one_life(world, shop)
    await start(world, shop)


def judge(file: str, shops: list[Shop], is_stored: bool) -> None:
    """Raise Fail if an acknowledged item is not in a store."""
    every = [item for shop in shops for item in shop.acknowledged()]
    lost = [item for shop in shops for item in shop.lost()]
    if not lost:
        return
    item = lost[0]
    life = item.split("-")[1]
    expected = f"all of the {len(every)} acknowledged items are in the store after the kills"
    example = f"{item} got 201 before kill {life}, and was not in the cart at the end"
    forgotten = [
        (kill, one)
        for shop in shops
        for kill, (before, after) in enumerate(zip(shop.found, shop.found[1:], strict=False), 2)
        for one in sorted(before - after)
    ]
    if forgotten:
        kill, one = forgotten[0]
        seen = f"items that survived a kill and were gone after the next one: {len(forgotten)}"
        example = f"{one} was in the cart before kill {kill}, and not after it"
        raise Fail(expected, seen, example, f"{file}: how the store is opened")
    if len(lost) == len(every):
        seen = f"after a restart there was not one of the {len(every)} acknowledged items"
        if not is_stored:
            seen += ", and the file that STORE names does not exist"
        look = f"{file}, add: where is the item when it returns? And what does a start delete?"
        raise Fail(expected, seen, example, look)
    seen = f"acknowledged items that were lost, each one shortly before a kill: {len(lost)}"
    raise Fail(expected, seen, example, f"{file}: what happens after the response")


async def check(world: World) -> None:
    """Let four services live five lives each; compare the responses with the stores."""
    shops = [Shop(number) for number in range(SHOPS)]
    outcomes = await asyncio.gather(*(lives(world, shop) for shop in shops), return_exceptions=True)
    every = sum(len(shop.acknowledged()) for shop in shops)
    lost = sum(len(shop.lost()) for shop in shops)
    world.measured = f"{lost} of {every} acknowledged items"
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    judge(world.file.name, shops, any(world.folder.glob("store*")))
