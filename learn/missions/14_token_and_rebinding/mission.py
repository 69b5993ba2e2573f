"""The world and the check of mission 14: requests of foreign web pages, and allowed ones."""

import asyncio
import re
import secrets
from contextlib import closing
from dataclasses import dataclass

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

MISSION = Mission(
    minutes=15,
    aim="guard a service of their own machine against web pages: Host, Origin and a token",
    prediction="The starter accepts a request if its Host contains localhost or 127.0.0.1. Of 30 "
    "hostile requests 14 have a foreign Host, which contains such a name in 8 of them; 6 have a "
    "foreign Origin; 10 have no right token. How many of the 30 does the starter accept?",
    why="It accepts the 8 whose Host only contains the name. The other 16 have a right Host, and "
    "it looks neither at Origin nor at the token.",
    result="The starter accepts most of the hostile requests; the solution none, and all others.",
    board="The service listens on 127.0.0.1 only. Which programs can send it a request, and which "
    "of these can set the headers Host and Origin as they like?",
    hints=(
        "A page cannot choose its `Host` and `Origin`: the browser sets them. So these two "
        "headers tell you from which site a request comes.",
        "Compare whole values, not parts: `localhost.evil.example` contains `localhost`. First "
        "make small letters. Compare Host without its port, but Origin with the whole Host.",
        'With `host = self.headers["Host"].lower()`: `host.partition(":")[0] in ("localhost", '
        '"127.0.0.1")`, also for GET. Origin: absent, or equal to f"http://{host}". Token: '
        'hmac.compare_digest with f"Bearer {TOKEN}", as bytes. It takes the same time for each '
        "wrong token; `==` takes longer if more letters are right, so a token could be guessed.",
    ),
    real=(
        Real("api/middleware.py", "RequestMiddleware._refusal", "Host, Origin and token, in turn"),
        Real("api/middleware.py", "RequestMiddleware._may_write", "compares whole origins"),
        Real("api/middleware.py", "_has_token", "takes the same time for each wrong token"),
        Real("api/settings.py", "refuse_unsafe_start", "no start beyond this machine unguarded"),
    ),
)


@dataclass(frozen=True)
class Sent:
    """A request, and the only thing that is wrong with it."""

    wrong: str  # empty if the request is allowed
    method: str
    headers: dict[str, str]
    value: str = ""  # the header that is wrong, for the verdict


@dataclass(frozen=True)
class Outcome:
    """What came of a request."""

    sent: Sent
    statuses: list[int]  # of its responses; there should be one
    stored: str  # what its cart had afterwards, if the request is not allowed

    @property
    def status(self) -> int:
        """The status of the first response; 0 if there was none."""
        return self.statuses[0] if self.statuses else 0

    def __str__(self) -> str:
        wanted = STATUS[self.sent.wrong][self.sent.method]
        got = self.status or "no response"
        return f"{self.sent.method} with {self.sent.headers} got {got}, not {wanted}"


def hostile(port: int, token: str, site: str) -> list[Sent]:
    """Return requests with one mistake each: a foreign Host, a foreign Origin, or no token."""
    right = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {token}"}
    hosts = [site, f"{site}:{port}", f"localhost.{site}", f"127.0.0.1.{site}:{port}"]
    hosts += [f"{site}.localhost", f"notlocalhost:{port}", f"0x7f000001.{site}"]
    origins = [f"http://{site}", f"https://localhost.{site}", "null", "http://127.0.0.1:1"]
    origins += [f"http://127.0.0.1:{port}.{site}", f"http://{site}/127.0.0.1:{port}"]
    tokens = ["", "Bearer", "Bearer ", f"Bearer {token[:1]}", f"Bearer {token}x", f"Basic {token}"]
    tokens += [f"Bearer {secrets.token_hex(8)}", token[:-1], f"Bearer {token[:-1]}"]
    sent = [
        Sent(what, method, {**right, "Host": host}, host)
        for what, method in (("foreign Host", "POST"), ("read", "GET"))
        for host in hosts
    ]
    sent += [Sent("foreign Origin", "POST", {**right, "Origin": each}, each) for each in origins]
    sent += [Sent("token", "POST", {**right, "Authorization": each}) for each in tokens]
    return [*sent, Sent("token", "POST", {"Host": right["Host"]})]


def allowed(port: int, token: str) -> list[Sent]:
    """Return the requests that must pass."""
    hosts = [f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", "localhost"]
    written = {"Authorization": f"Bearer {token}"}
    sent = [Sent("", "POST", {**written, "Host": host}) for host in hosts]
    sent += [Sent("", "GET", {"Host": host}) for host in hosts]
    own = [{"Host": host, "Origin": f"http://{host}"} for host in hosts[:2]]
    return sent + [Sent("", "POST", {**written, **each}) for each in own]


SEEN = {
    "foreign Host": "accepted requests with a foreign Host: {number}, such as {value}",
    "read": "a page with a foreign Host could read a cart, such as {value}",
    "foreign Origin": "accepted requests with a foreign Origin: {number}, such as {value}",
    "token": "accepted requests without the right token: {number}",
}
DONE = (200, 201)
STATUS = {
    "": {"GET": 200, "POST": 201},
    "foreign Host": {"POST": 400},
    "read": {"GET": 400},
    "foreign Origin": {"POST": 403},
    "token": {"POST": 401},
}
EXPECTED = {
    "foreign Host": "400 for each Host that is not of this machine",
    "read": "400 for each Host that is not of this machine, also for GET",
    "foreign Origin": "403 for a write with the Origin of another site",
    "token": "401 for a write without `Authorization: Bearer TOKEN`",
}


async def send(port: int, sent: Sent, target: str) -> list[int]:
    """Send a request; return the status of each response until the service closes."""
    headers = {**sent.headers, "Content-Length": "0", "Connection": "close"}
    lines = [f"{sent.method} {target} HTTP/1.1", *map(": ".join, headers.items())]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write("\r\n".join([*lines, "", ""]).encode())
            received = await asyncio.wait_for(reader.read(), 5)
    except (OSError, TimeoutError):
        return []
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]


async def check(world: World) -> None:
    """Send hostile and allowed requests in a random order; see which were accepted."""
    token = f"{world.random.getrandbits(64):016x}"
    _, url = await world.serve(TOKEN=token)
    port = int(url.rpartition(":")[2])
    site = f"evil{world.random.randrange(1000)}.example"
    bad = hostile(port, token, site) if world.faults else []
    requests = [*bad, *allowed(port, token)]
    world.random.shuffle(requests)
    outcomes: list[Outcome] = []
    for number, sent in enumerate(requests):
        cart, stored = f"/carts/{number}", ""
        target = f"{cart}?item=apple" if sent.method == "POST" else cart
        statuses = await send(port, sent, target)
        if sent.wrong:
            stored = (await world.call("GET", url + cart)).text
        outcomes.append(Outcome(sent, statuses, stored))
    accepted = [each for each in outcomes if each.sent.wrong and each.status in DONE]
    world.measured = f"{len(accepted)} of {len(bad)} hostile requests were accepted"
    if not bad:
        raise Void("there was no hostile request")
    judge(f"{world.file.name}, refusal", accepted, outcomes)


def judge(look: str, accepted: list[Outcome], outcomes: list[Outcome]) -> None:
    """Raise Fail if a hostile request had an effect, or an allowed one was rejected."""
    for wrong, expected in EXPECTED.items():
        if found := [each for each in accepted if each.sent.wrong == wrong]:
            seen = SEEN[wrong].format(number=len(found), value=found[0].sent.value)
            raise Fail(expected, seen, str(found[0]), look)
    if kept := [each for each in outcomes if "apple" in each.stored]:
        seen = f"rejected writes that were stored: {len(kept)}"
        example = f"{kept[0].sent.method} with {kept[0].sent.headers} got {kept[0].status}"
        raise Fail("a rejected write adds nothing", seen, f"{example}; it added an apple", look)
    if rejected := [each for each in outcomes if not each.sent.wrong and each.status not in DONE]:
        seen = f"allowed requests that were rejected: {len(rejected)}"
        raise Fail("allowed requests get 200 or 201", seen, str(rejected[0]), look)
    for each in outcomes:
        wanted = STATUS[each.sent.wrong][each.sent.method]
        if each.sent.wrong and each.status != wanted:
            seen = f"a hostile request got {each.status or 'no response'}, not {wanted}"
            raise Fail(EXPECTED[each.sent.wrong], seen, str(each), look)
    if several := [each for each in outcomes if len(each.statuses) > 1]:
        seen = f"requests with more than one response: {len(several)}"
        statuses = " and ".join(map(str, several[0].statuses))
        example = f"{several[0].sent.method} with {several[0].sent.headers} got {statuses}"
        raise Fail("each request gets one response", seen, example, look)
