"""The world and the check of mission 8: a service is stopped while customers pay."""

import asyncio
import time

from learn.missions import Mission, Real
from learn.program import Program
from learn.verdict import Fail, Void
from learn.world import World

CUSTOMERS = 8
PROBE_PAUSE_SECONDS = 0.2  # of the load balancer
AT_ONCE_SECONDS = 1.5  # after the signal
GRACE_SECONDS = 6.0  # then the platform kills the service

MISSION = Mission(
    minutes=15,
    aim="stop a service so that no accepted request is lost",
    prediction=f"{CUSTOMERS} customers pay while the starter gets the signal to stop. How many get "
    "no response?",
    why="Without a handler SIGTERM ends the process at once, with all its threads. So every "
    "payment in progress loses its response.",
    result=f"With the starter {CUSTOMERS} of {CUSTOMERS} get no response, with the solution none.",
    board="Why must a service go on accepting requests after it was told to stop? For how long?",
    hints=(
        "Without a handler, SIGTERM ends a Python process at once. `signal.signal(STOP, handler)` "
        "sets one. It may only note something and start something: it runs in the main thread.",
        "The handler sets `stopping` (so /ready says 503) and starts a thread. The thread waits "
        "two seconds and calls `server.shutdown()`. Then serve_forever returns.",
        "With `daemon_threads = True` the threads of the requests end together with the main "
        "thread. With False, Python waits for them: at the latest at the end of the program, and "
        "in `server.server_close()`.",
    ),
    real=(
        Real("api/calls.py", "ready", "says 503 as soon as the process is stopping"),
        Real("api/shutdown.py", "Shutdown.drain_on_sigterm", "first drain, then stop"),
        Real("api/middleware.py", "RequestMiddleware", "closes connections while it is stopping"),
    ),
)


async def balance(world: World, url: str, stop: asyncio.Event) -> tuple[list[str], bool]:
    """Send requests while /ready says 200; return errors, and whether it went on saying 200."""
    lost: list[str] = []
    still_ready, next_probe = 0, 0.0
    while True:
        if time.monotonic() >= next_probe:
            stopped = stop.is_set()
            probe = await world.call("GET", f"{url}/ready", 3)
            still_ready += stopped and probe.status == 200
            next_probe = time.monotonic() + PROBE_PAUSE_SECONDS
            if probe.status != 200:
                return lost, still_ready > 1 and probe.status != 503
        response = await world.call("POST", f"{url}/pay?seconds=0.01", 8)
        if response.status != 200:
            lost.append(response.error or str(response.status))
        await asyncio.sleep(0.02)


async def customers_who_pay(world: World, url: str) -> "asyncio.Future[list[str]]":
    """Start payments of four seconds, and return when the service has accepted all of them."""

    async def pay() -> str:
        response = await world.call("POST", f"{url}/pay?seconds=4", 20)
        return "" if response.status == 200 else response.error or str(response.status)

    paying = asyncio.gather(*(pay() for _ in range(CUSTOMERS)))

    async def all_accepted() -> bool:
        busy = (await world.call("GET", f"{url}/busy")).text
        return busy.isdigit() and int(busy) >= CUSTOMERS

    if not await world.until(all_accepted, 5):
        seen = "/busy never said that all payments are in progress"
        raise Fail("the service accepts 8 payments at the same time", seen, look=world.file.name)
    return paying


async def end_of(program: Program, stopped_at: float) -> int | None:
    """Return the exit code, or None after killing the service at the end of its grace."""
    while program.code is None:
        if time.monotonic() - stopped_at > GRACE_SECONDS:
            program.kill()
            return None
        await asyncio.sleep(0.02)
    return program.code


def refuse_unpaid(unpaid: list[str], seconds: float, file: str) -> None:
    """Raise Fail if payments got no response; the process ended `seconds` after the signal."""
    when, look = "at once", "what happens at the signal STOP"
    if seconds > AT_ONCE_SECONDS:
        when, look = "before them", "after serve_forever: who waits for the requests?"
    if unpaid:
        raise Fail(
            "each accepted payment gets a response",
            f"accepted payments without a response: {len(unpaid)}; the process ended {when}",
            f"it ended {seconds:.1f} s after the signal",
            f"{file}: {look}",
        )


async def check(world: World) -> None:
    """Stop the service while customers pay and a load balancer sends requests."""
    program, url = await world.serve()
    stop = asyncio.Event()
    paying = await customers_who_pay(world, url)
    balancing = asyncio.create_task(balance(world, url, stop))
    await asyncio.sleep(0.3)
    if not world.faults:
        balancing.cancel()
        raise Void("nobody stopped the service")
    program.stop()
    stop.set()
    stopped_at = time.monotonic()
    code = await end_of(program, stopped_at)
    seconds = time.monotonic() - stopped_at
    unpaid = [error for error in await paying if error]
    lost, still_ready = await balancing
    world.measured = f"{len(unpaid)} of {CUSTOMERS} customers"
    file = world.file.name
    if code is None:
        seen = f"it still ran {GRACE_SECONDS:g} s after the signal, and was killed"
        raise Fail("it ends after its last request", seen, look=f"{file}: who calls shutdown()?")
    refuse_unpaid(unpaid, seconds, file)
    if still_ready:
        seen = "/ready still said 200 after the signal"
        raise Fail("503 at /ready at once after the signal", seen, look=f"{file}: `stopping`")
    if lost:
        raise Fail(
            "requests are served until the load balancer has noticed the stop",
            f"requests of the load balancer without a response: {len(lost)}",
            lost[0],
            f"{file}: the time between the signal and shutdown()",
        )
    if code:
        raise Fail("exit code 0", f"exit code {code}", program.last_line(), file)
