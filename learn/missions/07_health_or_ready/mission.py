"""The world and the check of mission 7: the database hangs, and a platform watches the service."""

import asyncio
import time

from learn.missions import Mission, Real
from learn.proxy import Proxy
from learn.verdict import Fail, Void
from learn.world import Response, World

HEALTH_SECONDS, READY_SECONDS = 1.0, 2.0  # a probe without a response after this time has failed
NOTICE_SECONDS = 5.0  # until a change of the database must show
FAILURES = 3  # of /health in a row, then the platform restarts the service
BALANCERS, ROUNDS = 4, 3  # that ask /ready at the same time, and how often

MISSION = Mission(
    minutes=10,
    aim="tell liveness from readiness, and say which one may ask other services",
    prediction="The database hangs for a minute. A probe of /health fails after 1 s without a "
    "response, and the next one comes 0.1 s later. Three failed probes mean a restart. How many "
    "restarts are there in the minute, if a start takes no time?",
    why="In the starter /health waits for the database. Three probes take 3.3 s, and 60 s "
    "divided by 3.3 s is 18. None of the restarts repairs the database.",
    result="The starter is restarted after three probes, more than ten times a minute; the "
    "solution never. Its /ready says 503 while the database hangs.",
    board="All replicas share one database. If it hangs, none is ready. What should the load "
    "balancer do then?",
    hints=(
        "For which failing probe is a restart the right reaction? A restart helps if the process "
        "itself is broken, not if the database is.",
        "/health responds with 200, and asks no other service. The response itself says that the "
        "process is alive.",
        "/ready asks the database, with a timeout that is shorter than the probe's two seconds; "
        "after an OSError it responds with 503.",
    ),
    real=(
        Real("api/calls.py", "health", "asks nobody: only a restart could help"),
        Real("api/calls.py", "ready", "asks the store, and says 503 while it fails or stops"),
    ),
    limit_seconds=45,
)
LOOK = {"/health": "do_GET: what /health waits for", "/ready": "do_GET: what /ready does"}


async def database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to one request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


async def probe_health(world: World, url: str) -> None:
    """Ask /health for ever. Raises Fail when a platform would restart the service."""
    failures, began = 0, time.monotonic()
    while True:
        response = await world.call("GET", f"{url}/health", HEALTH_SECONDS)
        failures = 0 if response.status == 200 else failures + 1
        if failures == FAILURES:
            a_minute = 60 / (time.monotonic() - began)
            world.measured = f"about {a_minute:.0f} times a minute"
            what, look = "no response in time", LOOK["/health"]
            if response.status:
                what, look = str(response.status), "do_GET: does /health reach its own branch?"
            raise Fail(
                "no restart: the process is alive",
                "the platform restarted the service: /health failed three times",
                f"the last probe: {what}",
                f"{world.file.name}, {look}",
            )
        await asyncio.sleep(0.1)


async def probe_ready(world: World, url: str, proxy: Proxy) -> None:
    """Ask /ready while the database hangs, and after that. Raises Fail."""
    look = f"{world.file.name}, {LOOK['/ready']}"
    expected = "503 from /ready within 2 s while the database hangs, later 200"
    responses: list[Response] = []

    async def is_ready() -> bool:
        return (await world.call("GET", f"{url}/ready", READY_SECONDS)).status == 200

    async def is_not_ready() -> bool:
        return not await is_ready()

    if not await world.until(is_not_ready, NOTICE_SECONDS):  # it may ask the database seldom
        raise Fail(expected, "/ready said 200 while the database was hanging", "", look)
    for _ in range(ROUNDS):
        probes = [world.call("GET", f"{url}/ready", READY_SECONDS) for _ in range(BALANCERS)]
        responses += await asyncio.gather(*probes)
    for response in responses:
        refuse(response, expected, look)
    proxy.off()
    if not await world.until(is_ready, NOTICE_SECONDS):
        raise Fail(expected, "/ready still said 503 after the database was back", "", look)


def refuse(response: Response, expected: str, look: str) -> None:
    """Raise Fail if this is not the right response while the database hangs."""
    if response.status == 0:
        seen = f"/ready gave no response within {READY_SECONDS:g} s"
        raise Fail(expected, seen, response.error, look)
    if response.status != 503:
        seen = f"/ready said {response.status} while the database was hanging"
        raise Fail(expected, seen, "", look)


async def check(world: World) -> None:
    """Start the service with a database; let the database hang; probe as a platform does."""
    server = await asyncio.start_server(database, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    proxy = await world.proxy("cart", address)
    through = f"http://127.0.0.1:{proxy.port}/"
    _, url = await world.serve(DATABASE=through)
    for path in ("/health", "/ready"):
        response = await world.call("GET", url + path, 10)
        if response.status != 200 and world.faults:
            seen, look = f"{path} said {response.status} with a working database", LOOK[path]
            if not response.status:
                seen = f"{path} gave no valid response with a working database"
                look = "respond: does it call end_headers()?"
            expected = "200 with a working database"
            raise Fail(expected, seen, response.error, f"{world.file.name}, {look}")
    proxy.set("hang", 1)
    if (await world.call("GET", through, 1)).status:
        raise Void("the database still responds: nothing hangs")
    health = asyncio.create_task(probe_health(world, url))
    ready = asyncio.create_task(probe_ready(world, url, proxy))
    done, _ = await asyncio.wait({health, ready}, return_when=asyncio.FIRST_COMPLETED)
    if health in done:
        await health
    world.measured = "never"
    await ready
