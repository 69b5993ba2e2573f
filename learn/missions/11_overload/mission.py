"""The world and the check of mission 11: a control run, and three times the load it could do."""

import asyncio
import re
import time
from collections import Counter
from contextlib import closing, suppress

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

AT_ONCE = 8  # requests at the same time, under the usual load
CONTROL_SECONDS, OVERLOAD_SECONDS = 1.2, 3.5
FILLED_AFTER_SECONDS = 1.5  # after the begin of the overload; from then on we count
PATIENCE_SECONDS = 1.0  # of a customer, by the mission's text
TIMES = 3
ENOUGH = 0.6  # of the useful work of the control run
TOO_MUCH = 60  # responses a second: the tax computer can compute 40

MISSION = Mission(
    minutes=20,
    aim="bound a queue, reject early, and say why a busy server may do no useful work",
    prediction="The service can do 40 requests a second. 120 arrive, and each customer waits at "
    "most 1 s. After some seconds, how many customers a second get their total?",
    why="Each second 80 more requests wait in the queue. After one or two seconds each new one "
    "waits longer than its customer does, so all the work is for customers who have gone away.",
    result="The starter serves nobody in time, though it works all the time; the solution serves "
    "about 40 a second, as under its usual load.",
    board="A queue of length 1,000 or of length 16: what is each of them good for? How do you find "
    "the right length from the patience of the customers?",
    hints=(
        "How long does the last one in the queue wait? Compare it with the patience of a customer.",
        "`queue.Queue(maxsize=…)`: the waiting time of the last one is the length times 25 ms. "
        "`put` waits for a place; `put_nowait` raises queue.Full.",
        'maxsize=16. `except queue.Full:` self.respond(503, b"too many requests", '
        '[("Retry-After", "1")]), and return.',
    ),
    real=(
        Real("api/errors.py", "RETRY_AFTER", "503 tells clients when to come again"),
        Real("api/database.py", "Worker.submit", "a bound; and who has waited 1.8 s gets 503"),
        Real("data_ingestion_simulator/client.py", "backoff_seconds", "a client that keeps to it"),
    ),
)


async def ask(port: int, number: int) -> tuple[str, str]:
    """Send a request; return the status, and the value of Retry-After.

    The status is "" if the customer went away, "closed" if the service did without a response.
    """
    status, text = "", ""
    with suppress(TimeoutError, ConnectionRefusedError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                head = f"GET /carts/{number} HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n"
                with suppress(ConnectionError):
                    writer.write(head.encode())
                    text = (await reader.read()).decode(errors="replace")
                status = text[9:12] or "closed"
    retry_after = re.search(r"\r\nretry-after: *([^\r]*)\r\n", text, re.I)
    return status, retry_after[1] if retry_after else ""


async def control_run(port: int) -> tuple[float, Counter[str]]:
    """Return the useful responses a second under the usual load, and all statuses."""
    statuses: Counter[str] = Counter()
    began = time.monotonic()

    async def customer(number: int) -> None:
        while time.monotonic() < began + CONTROL_SECONDS:
            status, _ = await ask(port, number)
            statuses[status] += 1
            if status != "200":
                await asyncio.sleep(0.02)

    await asyncio.gather(*(customer(number) for number in range(AT_ONCE)))
    return statuses["200"] / (time.monotonic() - began), statuses


async def overload(port: int, per_second: float) -> tuple[float, Counter[str], Counter[str]]:
    """Send requests at a fixed rate, whatever comes back.

    Return the useful responses a second, once the queue has filled; the statuses of all requests;
    and the values of Retry-After in the responses with 503.
    """
    began = time.monotonic()
    sent: list[tuple[float, asyncio.Task[tuple[str, str]]]] = []
    while (at := len(sent) / per_second) < OVERLOAD_SECONDS:
        await asyncio.sleep(began + at - time.monotonic())
        sent.append((at, asyncio.create_task(ask(port, len(sent)))))
    results = await asyncio.gather(*(task for _, task in sent))
    late = [
        result for (at, _), result in zip(sent, results, strict=True) if at >= FILLED_AFTER_SECONDS
    ]
    useful = sum(status == "200" for status, _ in late) / (OVERLOAD_SECONDS - FILLED_AFTER_SECONDS)
    values = Counter(value for status, value in results if status == "503")
    return useful, Counter(status for status, _ in results), values


async def check(world: World) -> None:
    """Measure the useful work under the usual load, and under three times as much."""
    _, url = await world.serve()
    port = int(url.rpartition(":")[2])
    usual, statuses = await control_run(port)
    if not usual:
        got = ", ".join(filter(None, statuses)) or f"no response within {PATIENCE_SECONDS:g} s"
        raise Fail("GET /carts/NAME gets 200", f"it got {got}", "", f"{world.file.name}, do_GET")
    times = TIMES if world.faults else 0.5
    useful, overloaded, retry_after = await overload(port, usual * times)
    world.measured = f"{useful:.0f} a second, and {usual:.0f} a second under the usual load"
    if not world.faults:
        raise Void("the load stayed below what the service can do")
    file = world.file.name
    if closed := statuses["closed"] + overloaded["closed"]:
        seen = f"connections that the service closed without a response: {closed}"
        look = f"{file}, do_GET: which exception does it raise?"
        raise Fail("each request gets 200 or 503", seen, look=look)
    # No status: on a busy machine, a customer may have gone away.
    if rejected := statuses.total() - statuses["200"] - statuses[""]:
        seen = f"requests rejected under the usual load: {rejected}"
        example = f"the statuses of {AT_ONCE} customers: {dict(statuses)}"
        raise Fail("the usual load fits into the queue", seen, example, f"{file}: the bound")
    if strange := set(overloaded) - {"", "200", "503"}:
        status = min(strange)
        seen = f"responses with the status {status}: {overloaded[status]}"
        raise Fail("200, or 503 if the queue is full", seen, "", f"{file}, do_GET")
    if wrong := [value for value in retry_after if not re.fullmatch("[1-9][0-9]*", value)]:
        seen = f"responses with 503 and without Retry-After: {retry_after['']}"
        if wrong[0]:
            seen = f"a response with 503 has Retry-After {wrong[0]!r}"
        expected = "each 503 has Retry-After, a whole number of seconds, at least 1"
        raise Fail(expected, seen, look=f"{file}: where 503 is sent")
    refuse_useless(useful, usual, overloaded, file)


def refuse_useless(useful: float, usual: float, overloaded: Counter[str], file: str) -> None:
    """Raise Fail if the service has not done the useful work under overload that it can do."""
    gone = f"{overloaded['']} of {overloaded.total()} customers went away without a response"
    expected = f"at least {ENOUGH * usual:.0f} useful responses a second, "
    expected += f"{ENOUGH:.0%} of the {usual:.0f} under the usual load"
    if useful > TOO_MUCH:
        seen = f"{useful:.0f} responses a second, more than the tax computer can compute"
        look = f"{file}, do_GET: is each total computed before the response?"
        raise Fail("at most 40 useful responses a second", seen, look=look)
    seen = f"{useful:.0f} useful responses a second under three times the load, "
    if not overloaded["503"]:
        look = f"{file}: how long is the queue, and how long does the last one wait?"
        raise Fail(expected, seen + "and it rejected no request", gone, look)
    if useful < ENOUGH * usual:
        seen += f"although it rejected {overloaded['503']} requests: the others waited too long"
        raise Fail(expected, seen, gone, f"{file}: how long does the last one in the queue wait?")
