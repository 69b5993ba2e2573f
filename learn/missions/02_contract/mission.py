"""The world and the check of mission 2: the same requests to the learner's service and the API."""

import json
import re
from typing import Any
from urllib.parse import urlencode

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World
from tools.processes import ROOT

MISSION = Mission(
    minutes=15,
    aim="validate input as a contract says it, and test two services with the same stories",
    prediction="24 of the requests have one mistake each. How many of these does the starter "
    "accept, with 201?",
    why="The starter stores every text as it is. It rejects only what makes its code fail, such as "
    "a missing parameter, and even then it sends no response.",
    result="The starter stores numbers as texts, and fails at the first story; the solution gives "
    "the status of the real API to each request.",
    board="A stricter service breaks a careless client. A more tolerant one hides its mistakes. "
    "Who should find the mistake, and when?",
    hints=(
        "Write one function that returns a number from a text, or raises ValueError; and one place "
        "that turns ValueError into 422.",
        "`int` accepts more than plain digits: '1_0', '+5', ' 7', '٣'. First use "
        "re.fullmatch('[0-9]+', …).",
        "`dict(parse_qsl(…))` hides a repeated parameter and, without keep_blank_values=True, an "
        "empty one. Compare the sorted list of all names with the three that you expect. GET "
        "allows no parameter at all.",
    ),
    real=(
        Real("api/models.py", "_number", "the rules of a number, for code and documentation"),
        Real("api/models.py", "Age", "a parameter with these rules"),
        Real("api/fast_route.py", "_parameters", "rejects repeated parameters"),
        Real("api/errors.py", "invalid_request", "the response to all invalid requests"),
    ),
)

NO_RESPONSE = "no response: the service raised an exception, see its output"
USER = {"user_id": "5", "name": "Eve", "age": "40"}
# What is wrong, and requests that have this mistake.
WRONG: dict[str, list[dict[str, Any]]] = {
    "not a number": [{"age": text} for text in ("abc", "", "30.5", "0x10")],
    "out of range": [{"age": "151"}, {"user_id": str(2**53)}, {"age": "-1"}],
    "not in plain digits": [{"age": text} for text in ("1_0", "+5", "٣", " 7", "7 ")],
    "a wrong name": [{"name": ""}, {"name": "x" * 101}, {"name": " "}],
    "a missing parameter": [{"age": None}, {"name": None}, {"user_id": None}],
    "an unknown parameter": [{"admin": "true"}, {"Age": "3"}, {"admin": ""}],
    "a repeated parameter": [
        {"age": ["40", "41"]},
        {"name": ["Eve", "Eve"]},
        {"name": None, "age": ["40", "40"]},
    ],
}


def stories() -> list[tuple[str, str, int, object]]:
    """Return the published stories that this small service must tell, too."""
    told = json.loads((ROOT / "contract" / "examples.json").read_text(encoding="utf-8"))
    wanted = re.compile(r"POST /users/\?|GET /users/\d+\b")
    return [
        (story["method"], story["path"], story["status"], story["body"])
        for story in told
        if wanted.match(f"{story['method']} {story['path']}")
    ]


def difference(expected: object, got: object) -> str:
    """Return in words in which value a body differs from the expected one."""
    if not isinstance(expected, dict) or not isinstance(got, dict):
        return f"expected {json.dumps(expected)}"
    for name, value in expected.items():
        if name not in got:
            return f"{name} is missing"
        if str(got[name]) == str(value) and got[name] != value:
            return f"{name} is {json.dumps(got[name])}, not {json.dumps(value)}"
        if got[name] != value:
            return f"{name} is {json.dumps(got[name])[:100]}"
    return f"there is more than {', '.join(expected)}"


def friendly(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return requests without a mistake."""
    return {"nothing": [{"age": str(world.random.randrange(151))} for _ in range(20)]}


async def tell_stories(world: World, url: str) -> list[Fail]:
    """Send the published examples to a service; return where it differs."""
    failures = []
    for method, path, status, body in stories():
        response = await world.call(method, url + path)
        if response.status == status and (status >= 300 or response.body == body):
            continue
        got = f"{response.status or NO_RESPONSE}"
        if response.status == status:
            got += f", and the body is different: {difference(body, response.body)}"
        failures.append(
            Fail(
                f"{method} {path} gets {status} {json.dumps(body) if status < 300 else ''}",
                f"a published example, {method} {path}, got {got}",
                f"the response is {response.text[:200] or response.error}",
                f"{world.file.name}, do_{method}; the examples are in contract/examples.json",
            )
        )
    return failures


async def check(world: World) -> None:
    """Send the published examples; then requests with one mistake each."""
    _, url = await world.serve()
    real = await world.api()
    file, accepted = world.file.name, 0
    failures = await tell_stories(world, url)
    requests = WRONG if world.faults else friendly(world)
    cases = [(what, change) for what, changes in requests.items() for change in changes]
    order = list(requests)
    world.random.shuffle(cases)
    for what, change in sorted(cases, key=lambda case: order.index(case[0])):
        values = {**USER, "user_id": str(world.random.randrange(1000, 10**9)), **change}
        query = urlencode({k: v for k, v in values.items() if v is not None}, doseq=True)
        theirs = await world.call("POST", f"{real}/users/?{query}")
        ours = await world.call("POST", f"{url}/users/?{query}")
        accepted += ours.status == 201
        if ours.status != theirs.status:
            failures.append(
                Fail(
                    f"the status of the real API: {theirs.status}",
                    f"{what}: got {ours.status or NO_RESPONSE}",
                    f"POST /users/?{query[:200]}",
                    f"{file}, do_POST",
                )
            )
    if not world.faults:
        raise Void("no request had a mistake, so strictness was not tested")
    world.measured = f"{accepted} of {len(cases)} requests with a mistake were accepted"
    if failures:
        raise failures[0]
