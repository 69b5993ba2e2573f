"""The world and the check of mission 4: 30 % of the calls hang."""

import asyncio
import time

from learn.missions import Mission, Real
from learn.verdict import Fail
from learn.world import World, require_strikes

USERS = 20
ALLOWED_SECONDS = 1.0  # by the mission's text, for one call
LONGEST_SECONDS = 45.0
PATIENCE_SECONDS = 4 * ALLOWED_SECONDS  # a busy machine may notice late

MISSION = Mission(
    minutes=10,
    aim="give every call a timeout, and decide what happens after it",
    prediction=f"The starter asks for {USERS} ages, and 30 % of the calls hang. How many lines "
    "does it print before it stops?",
    why="A call that hangs never ends without a timeout. So the starter printed the lines before "
    "the first such call, and no line after it.",
    result="The starter prints a few lines and waits for ever; the solution prints all lines.",
    board="How do you choose a timeout? What happens to the server if all clients choose a very "
    "short one?",
    hints=(
        "Without a timeout `urlopen` waits for ever. Look at its parameters.",
        "`urlopen(…, timeout=1)` raises an exception when nothing arrives for a second. A read is "
        "safe to repeat, so call it again.",
        "`while True:` around `try:`; catch OSError. It includes URLError (no connection) and "
        "TimeoutError (no response).",
    ),
    real=(
        Real("frontend/api_client.py", "ApiClient", "each request of the dashboard has a deadline"),
        Real(
            "data_ingestion_simulator/connection.py",
            "_Socket.send",
            "a timer ends a request without a response",
        ),
    ),
    limit_seconds=60,
)


async def check(world: World) -> None:
    """Run the program behind a proxy that lets calls hang; watch how long each one waits."""
    url = await world.api()
    ids = world.random.sample(range(1, 10_000), USERS)
    ages = {user_id: world.random.randrange(151) for user_id in ids}
    people = {str(user_id): {"name": "Ada", "age": age} for user_id, age in ages.items()}
    await world.call("POST", f"{url}/users/batch", body=people)
    proxy = await world.proxy("page", url)
    proxy.set("hang", 0.3)
    address = f"http://127.0.0.1:{proxy.port}"
    program = await world.start(USER_IDS=",".join(map(str, ids)), API_URL=address)
    file = world.file.name
    deadline = time.monotonic() + LONGEST_SECONDS
    while program.code is None and time.monotonic() < deadline:
        began = min(proxy.hanging.values(), default=time.monotonic())
        world.measured = f"{lines_with_age(program.output, ages)} of {USERS} lines"
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise Fail(
                f"no call waits more than {ALLOWED_SECONDS:g} s",
                f"a call waited more than {PATIENCE_SECONDS:g} s, and still waited",
                program.last_line() or "it has not printed anything",
                f"{file}, age_of: the call without a (short) timeout",
            )
        await asyncio.sleep(0.05)
    if program.code is None:
        seen = f"it still ran after {LONGEST_SECONDS:g} s"
        raise Fail("the program ends", seen, program.last_line(), f"{file}: a loop without an end")
    await program.succeeded(1)
    printed = lines_with_age(program.output, ages)
    world.measured = f"{printed} of {USERS} lines"
    if printed < USERS:
        raise Fail(
            "one line for each user: id and age",
            f"users without an age in the output: {USERS - printed}",
            program.last_line(),
            f"{file}: what happens after a timeout",
        )
    require_strikes(proxy, 1, "hang")


def lines_with_age(output: str, ages: dict[int, int]) -> int:
    """Return for how many users the output has a line with id and age."""
    lines = set(output.splitlines())
    return sum(f"{user_id} {age}" in lines for user_id, age in ages.items())
