"""The world and the check of mission 1: a recorder in front of the API notes the calls."""

import asyncio
import re
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

MISSION = Mission(
    minutes=10,
    aim="name the methods and the statuses of an HTTP API, and read the status as the result",
    prediction="The starter sends three calls, and prints a line after each response. How many "
    "lines does it print before it ends?",
    why="The third call got its response, 409. `urlopen` turned it into an exception, so the "
    "starter ended before its third line.",
    result="The starter prints two lines, and ends with an exception at the 409; the solution "
    "prints six lines.",
    board="The course's first API responded with 200 to a taken id, with an error in the body. Who "
    "believed what, and for how long?",
    hints=(
        "`urlopen` raises HTTPError for a status of 400 or more. Such a response is no accident: "
        "your program expects it.",
        "Catch HTTPError in `call`. The exception has a `status`, as a response has.",
        "The three missing calls: PUT with age=200, DELETE, and GET, all for FREE_ID.",
    ),
    real=(
        Real("api/calls.py", "create_user", "the call that creates: 201, or the store raises"),
        Real("api/errors.py", "store_error", "turns each error of the store into its status"),
        Real("api/crud.py", "UserExists", "the error that becomes 409 carries the stored user"),
    ),
)


@dataclass(frozen=True)
class Call:
    """A request and the status of its response."""

    method: str
    path: str
    query: dict[str, str]
    status: str

    def is_like(self, wanted: "Call") -> bool:
        """Return whether a call is what the task wants. If it is invalid, nothing else may be."""
        if (self.method, self.path, self.status) != (wanted.method, wanted.path, wanted.status):
            return False
        is_subset = wanted.query.items() <= self.query.items()
        return is_subset and (self.status != "422" or self.query == wanted.query)

    def __str__(self) -> str:
        """Return such as "GET /users/5: 404"."""
        query = "?" + "&".join(map("=".join, self.query.items())) if self.query else ""
        return f"{self.method} {self.path}{query}: {self.status}"


def wanted_calls(free: str, taken: str) -> list[Call]:
    """Return the calls of the task, in its order."""
    ada = f"/users/{free}"
    return [
        Call("POST", "/users/", {"user_id": free, "name": "Ada", "age": "36"}, "201"),
        Call("GET", ada, {}, "200"),
        Call("POST", "/users/", {"user_id": taken}, "409"),
        Call("PUT", ada, {"name": "Ada", "age": "200"}, "422"),
        Call("DELETE", ada, {}, "204"),
        Call("GET", ada, {}, "404"),
    ]


class Recorder:
    """Stands in front of the API, and notes the calls."""

    def __init__(self, url: str) -> None:
        self.calls: list[Call] = []
        self._port = urlsplit(url).port

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one request to the API, and its response back."""
        with closing(writer), suppress(OSError, EOFError, ValueError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.I)
            body = await reader.readexactly(int(length[1])) if length else b""
            first, _, rest = head.partition(b"\r\n")
            there, to_api = await asyncio.open_connection("127.0.0.1", self._port)
            with closing(to_api):
                to_api.write(first + b"\r\nConnection: close\r\n" + rest + body)
                response = await there.read()
            method, target = first.decode().split()[:2]
            url = urlsplit(target)
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            self.calls.append(Call(method, url.path, query, response[9:12].decode()))
            writer.write(response)
            await writer.drain()


async def check(world: World) -> None:
    """Run the program; then compare the calls that the API got with those of the task."""
    free, taken = map(str, world.random.sample(range(1, 1_000_000), 2))
    url = await world.api()
    grace = {"name": "Grace", "age": 45}
    if world.faults:  # nobody has the id: no 409 is possible
        await world.call("POST", f"{url}/users/", user_id=taken, name="Grace", age=45)
    elif (await world.call("GET", f"{url}/users/{taken}")).status == 404:
        raise Void("nobody has TAKEN_ID, so no conflict is possible")
    recorder = Recorder(url)
    server = await asyncio.start_server(recorder.pass_on, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    program = await world.start(API_URL=address, FREE_ID=free, TAKEN_ID=taken)
    code = await program.ended(15)
    printed = re.findall(r"^(?:GET|POST|PUT|DELETE) \S+ [0-9]{3}$", program.output, re.M)
    world.measured = f"{len(printed)} lines, and the API got {len(recorder.calls)} calls"
    users = (await world.call("GET", f"{url}/users/")).body
    file = world.file.name
    if users.get(taken) != grace:
        what = "changed" if taken in users else "deleted"
        raise Fail(
            "the other user is still there, unchanged",
            f"the user with TAKEN_ID was {what}",
            f"before: {grace}, now: {users.get(taken)}",
            f"{file}: the calls with TAKEN_ID",
        )
    if code:
        raise program.crash(f"it ended with exit code {code}, and not all six calls were sent")
    judge(recorder.calls, wanted_calls(free, taken), file)
    if free in users:
        raise Fail("Ada is deleted at the end", "Ada is still stored", "", f"{file}: DELETE")


def judge(calls: list[Call], wanted: list[Call], file: str) -> None:
    """Raise Fail unless the calls of the task are among the calls, in its order."""
    left = iter(calls)
    for number, step in enumerate(wanted, 1):
        if any(call.is_like(step) for call in left):
            continue
        same = [call for call in calls if (call.method, call.status) == (step.method, step.status)]
        if any(call.is_like(step) for call in same):
            seen = f"call {number} of the task was sent, but not in this order"
        elif same:
            seen = f"a {step.method} had the status {step.status}, but for another reason"
        else:
            seen = f"no {step.method} had the status {step.status}"
        got = ", then ".join(map(str, calls)) or "no call"
        look = f"{file}: the call with {step.method}"
        raise Fail(f"call {number} of the task: {step}", seen, f"the API got {got}", look)
