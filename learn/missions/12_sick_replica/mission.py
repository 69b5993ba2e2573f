"""The world and the check of mission 12: three real APIs, one of which fails some of its reads."""

import asyncio
import re
from dataclasses import dataclass, field

from learn.missions import Mission, Real
from learn.program import Program
from learn.verdict import Fail, Void
from learn.world import World

NAMES = ("ash", "elm", "oak")
REASONS = ("the disk is full", "the certificate has expired", "too many files are open")
USERS = 30
READS = 40  # of each replica
SHARE = 0.3  # of the sick replica's reads fail
NOBODY = 1_000_000  # from here on, no user has the id
TOLERANCE_PERCENT = 1

MISSION = Mission(
    minutes=15,
    aim="find a sick replica by its metrics, and the cause of one failure by its request id",
    prediction="Three replicas get the same number of reads. One of them fails 30 % of its reads, "
    "with 500; the others fail none. How many percent of all reads fail?",
    why="The mean over all replicas is a third of 30 %: two healthy replicas hide the sick one. So "
    "look at the metrics of each replica.",
    result="/health of the sick replica says 200, so the starter finds nothing; the metrics find "
    "the replica, and the log finds the cause of one request.",
    board="/health says that a restart would help. Should it fail if 30 % of the reads fail? Who "
    "should notice such a replica, and what should happen to it?",
    hints=(
        "Your program can read the URL of a replica with /metrics at its end. Which lines count "
        "requests, and how do they differ?",
        'Sum the lines `api_requests_total{method="GET",route="/users/{user_id}",status="…"}` of '
        "each replica: all of them, and those with 500 or more. A 404 is the client's mistake.",
        'In LOGS/NAME.log, find the line with REQUEST_ID and "exception"; json.loads(line) '
        '["exception"].splitlines()[-1] is the reason. print(name, round(percent), reason).',
    ),
    real=(
        Real("api/middleware.py", "RequestMiddleware", "logs an exception with the request id"),
        Real("api/calls.py", "health", "asks nobody: it says only that the process is alive"),
        Real("api/telemetry.py", "Metrics.observe", "counts each request: method, route, status"),
        Real("api/telemetry.py", "AccessLog.observe", "the log line of a request"),
    ),
)


@dataclass
class Replica:
    """A replica of the API, and what its customers have seen."""

    name: str
    url: str
    program: Program
    failed: list[tuple[str, int]] = field(default_factory=list)  # request id and user id
    reads: int = 0


async def start(world: World, name: str, is_sick: bool) -> Replica:
    """Start a replica; a sick one fails a part of its reads."""
    own = World(world.file, world.seed, world.folder)  # to know which program is which
    app = "learn.inside:app" if is_sick else "main:app"
    url = await own.api(
        app=app,
        LOG_FORMAT="json",
        FAULT_INSIDE=f"error {SHARE}",
        FAULT_REASONS=",".join(REASONS),
        FAULT_SEED=str(world.seed),
    )
    users = {str(number): {"name": "Ada", "age": number} for number in range(USERS)}
    await world.call("POST", f"{url}/users/batch", body=users)
    return Replica(name, url, own.programs[-1])


async def read(world: World, replica: Replica, user_id: int, request_id: str) -> None:
    """Read a user as a customer does."""
    headers = {"X-Request-ID": request_id}
    response = await world.call("GET", f"{replica.url}/users/{user_id}", headers=headers)
    replica.reads += 1
    if response.status >= 500:
        replica.failed.append((request_id, user_id))


async def traffic(world: World, replicas: list[Replica], careless: Replica) -> None:
    """Let customers read; one client asks a healthy replica for users that do not exist."""
    for _ in range(READS):
        ids = [f"{world.random.getrandbits(64):016x}" for _ in replicas]
        users = [world.random.randrange(USERS) for _ in replicas]
        calls = zip(replicas, users, ids, strict=True)
        await asyncio.gather(*(read(world, *each) for each in calls))
        await read(world, careless, world.random.randrange(NOBODY, 2 * NOBODY), ids[0][::-1])


def complaint(sick: Replica) -> tuple[str, str]:
    """Return the id of a failed request and its reason, which the first and last do not have."""
    kinds = [user_id % len(REASONS) for _, user_id in sick.failed]
    for (request_id, _), kind in zip(sick.failed, kinds, strict=True):
        if kind not in (kinds[0], kinds[-1]):
            return request_id, REASONS[kind]
    return "", ""


async def check(world: World) -> None:
    """Let customers find the sick replica; then compare what the program says."""
    names = world.random.sample(NAMES, len(NAMES))
    sick_name = names[0] if world.faults else ""
    replicas = list(
        await asyncio.gather(*(start(world, name, name == sick_name) for name in sorted(names)))
    )
    sick, careless, third = (next(r for r in replicas if r.name == name) for name in names)
    await traffic(world, replicas, careless)
    request_id, reason = complaint(sick)
    while world.faults and not request_id:
        await read(world, sick, world.random.randrange(USERS), f"{world.random.getrandbits(64):x}")
        request_id, reason = complaint(sick)
    health = await world.call("GET", f"{sick.url}/health")
    percent = 100 * len(sick.failed) / (sum(replica.reads for replica in replicas) - READS)
    world.measured = f"{percent:.0f} % of all reads; /health of the sick replica: {health.status}"
    if not world.faults:
        raise Void("no replica was sick")
    await read(world, third, 1, request_id)  # the customer has tried again
    folder = world.folder / "logs"
    folder.mkdir()
    for replica in replicas:
        await world.call("GET", f"{replica.url}/ready")  # its line comes after all others
        await world.until(lambda: is_logged(replica, "/ready"), 5)  # noqa: B023 - awaited here
        (folder / f"{replica.name}.log").write_text(replica.program.output, encoding="utf-8")
    program = await world.run(
        10,
        REPLICAS=",".join(f"{replica.name}={replica.url}" for replica in replicas),
        LOGS=str(folder),
        REQUEST_ID=request_id,
    )
    judge(program, sick, replicas, reason)


async def is_logged(replica: Replica, text: str) -> bool:
    """Return whether the log of a replica has a text."""
    return text in replica.program.output


def judge(program: Program, sick: Replica, replicas: list[Replica], reason: str) -> None:
    """Raise Fail unless the last line has the name, the percentage, and the reason."""
    file, percent = program.file.name, 100 * len(sick.failed) / sick.reads
    form = rf"^({'|'.join(NAMES)})\b[ ,:]+([0-9]+(?:\.[0-9]+)?) *%?[ ,:]*(.*)$"
    lines = re.findall(form, program.output, re.M)
    if not lines:
        has_name = re.search(rf"^({'|'.join(NAMES)})\b", program.output, re.M)
        raise Fail(
            "one line: name, percent, reason, in this order",
            f"no line has {'a number after the name' if has_name else 'the name of a replica'}"
            f"{'' if has_name else ' at its beginning'}",
            program.last_line(),
            f"{file}: its print",
        )
    name, number, why = lines[-1]
    expected = "the sick replica, the share of its own reads that failed, the reason of the request"
    if name != sick.name:
        seen = f"it named {name}: this replica is well"
        if next(replica for replica in replicas if replica.name == name).reads > READS + 1:
            seen += ", a client asked it for users that do not exist"
        raise Fail(expected, seen, " ".join(lines[-1]), f"{file}: which statuses are counted?")
    if abs(float(number) - percent) > TOLERANCE_PERCENT:
        every = 100 * len(sick.failed) / sum(replica.reads for replica in replicas)
        seen = f"it printed {number} %"
        if abs(float(number) - every) <= TOLERANCE_PERCENT:
            seen += ": this is the share of the reads of all replicas"
        example = f"{sick.name} did {sick.reads} reads; {len(sick.failed)} got 500"
        raise Fail(expected, seen, example, f"{file}: the percentage")
    if reason not in why:
        other = any(each in why for each in REASONS)
        seen = "it printed the reason of another request" if other else "it printed no reason"
        raise Fail(expected, seen, program.last_line(), f"{file}: how it finds the line in the log")
