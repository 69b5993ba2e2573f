"""The world and the check of mission 14: requests of foreign web pages, and of friends."""

import secrets
from dataclasses import dataclass

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

MISSION = Mission(
    minutes=15,
    aim="guard a service of their own machine against web pages: Host, Origin and a token",
    prediction="The starter accepts a request if its Host contains localhost or 127.0.0.1. Of 29 "
    "hostile requests 14 have a foreign Host, which contains such a name in 8 of them; 6 have a "
    "foreign Origin; 9 have no right token. How many of the 29 does the starter accept?",
    why="It accepts the 8 whose Host only contains the name. The other 15 have a right Host, and "
    "it looks neither at Origin nor at the token.",
    result="The starter accepts most of the hostile requests; the solution none, and all friends.",
    board="The service listens on 127.0.0.1 only. Which programs can send it a request, and which "
    "of these can set the headers Host and Origin as they like?",
    hints=(
        "A page cannot choose its `Host` and `Origin`: the browser sets them. So these two "
        "headers tell you from which site a request comes.",
        "Compare whole values, not parts: `localhost.evil.example` contains `localhost`. First "
        "make small letters, and cut off the port.",
        'Host: `host.partition(":")[0] in ("localhost", "127.0.0.1")`. Origin: absent, or equal '
        'to f"http://{host}". Token: hmac.compare_digest with f"Bearer {TOKEN}", as bytes. '
        "Check Host also for GET.",
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

    wrong: str
    method: str
    headers: dict[str, str]
    value: str  # the header that is wrong, for the verdict


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
    return sent + [Sent("token", "POST", {**right, "Authorization": each}, each) for each in tokens]


def friends(port: int, token: str) -> list[Sent]:
    """Return the requests that must pass."""
    hosts = [f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", "localhost"]
    written = {"Authorization": f"Bearer {token}"}
    sent = [Sent("friend", "POST", {**written, "Host": host}, host) for host in hosts]
    sent += [Sent("friend", "GET", {"Host": host}, host) for host in hosts]
    own = [{"Host": host, "Origin": f"http://{host}"} for host in hosts[:2]]
    return sent + [Sent("friend", "POST", {**written, **each}, each["Origin"]) for each in own]


SEEN = {
    "foreign Host": "accepted requests with a foreign Host: {number}, such as {value}",
    "read": "a page with a foreign Host could read a cart, such as {value}",
    "foreign Origin": "accepted requests with a foreign Origin: {number}, such as {value}",
    "token": "accepted requests without the right token: {number}",
}
DONE = (200, 201)
STATUS = {"foreign Host": 400, "read": 400, "foreign Origin": 403, "token": 401}
EXPECTED = {
    "foreign Host": "400 for each Host that is not of this machine",
    "read": "400 for each Host that is not of this machine, also for GET",
    "foreign Origin": "403 for a write with the Origin of another site",
    "token": "401 for a write without `Authorization: Bearer TOKEN`",
}


async def check(world: World) -> None:
    """Send the friends and the hostile requests in a random order; see what was accepted."""
    token = f"{world.random.getrandbits(64):016x}"
    _, url = await world.serve(TOKEN=token)
    port = int(url.rpartition(":")[2])
    site = f"evil{world.random.randrange(1000)}.example"
    bad = hostile(port, token, site) if world.faults else []
    requests = [*bad, *friends(port, token)]
    world.random.shuffle(requests)
    responses: list[tuple[Sent, int]] = []
    for number, sent in enumerate(requests):
        target = f"{url}/carts/{number}"
        if sent.method == "POST":
            target += f"?item={sent.wrong.split()[0]}"
        response = await world.call(sent.method, target, headers=sent.headers)
        responses.append((sent, response.status))
    accepted = [sent for sent, status in responses if sent in bad and status in DONE]
    world.measured = f"{len(accepted)} of {len(bad)} hostile requests were accepted"
    if not bad:
        raise Void("there was no hostile request")
    judge(f"{world.file.name}, refusal", accepted, responses)


def judge(look: str, accepted: list[Sent], responses: list[tuple[Sent, int]]) -> None:
    """Raise Fail if a hostile request was accepted, or a friend was not."""
    for wrong, expected in EXPECTED.items():
        if found := [sent for sent in accepted if sent.wrong == wrong]:
            seen = SEEN[wrong].format(number=len(found), value=found[0].value)
            raise Fail(expected, seen, example(found[0]), look)
    friendly = [each for each in responses if each[0].wrong == "friend"]
    if rejected := [each for each in friendly if each[1] not in DONE]:
        seen = f"friends who were rejected: {len(rejected)}"
        raise Fail("friends get 200 or 201", seen, example(*rejected[0]), look)
    for sent, status in responses:
        if sent.wrong != "friend" and status != STATUS[sent.wrong]:
            seen = f"a hostile request got {status or 'no response'}, not {STATUS[sent.wrong]}"
            raise Fail(EXPECTED[sent.wrong], seen, example(sent), look)


def example(sent: Sent, status: int | None = None) -> str:
    """Return a request, and the status that it got, as an example."""
    got = "" if status is None else f" got {status or 'no response'}"
    return f"{sent.method} with {sent.headers}{got}"
