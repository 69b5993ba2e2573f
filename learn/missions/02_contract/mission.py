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
    prediction="Of about 20 wrong requests, how many does the starter accept?",
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
        Real("api/models.py", "Age", "the rules of a parameter, once for code and documentation"),
        Real("api/fast_route.py", "FastRoute", "rejects unknown and repeated parameters"),
        Real("api/errors.py", "add_error_handlers", "one shape for all errors"),
    ),
)

USER = {"user_id": "5", "name": "Eve", "age": "40"}
# What is wrong, and requests that have this mistake.
WRONG: dict[str, list[dict[str, Any]]] = {
    "not a number": [{"age": text} for text in ("abc", "", "30.5", "0x10")],
    "out of range": [{"age": "151"}, {"user_id": str(2**53)}, {"age": "-1"}],
    "not in plain digits": [{"age": text} for text in ("1_0", "+5", "٣", " 7", "7 ")],
    "a wrong name": [{"name": ""}, {"name": "x" * 101}],
    "a missing parameter": [{"age": None}, {"name": None}, {"user_id": None}],
    "an unknown parameter": [{"admin": "true"}, {"Age": "3"}],
    "a repeated parameter": [{"age": ["40", "41"]}, {"name": ["Eve", "Eve"]}],
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


def friendly(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return requests without a mistake."""
    return {"nothing": [{"age": str(world.random.randrange(151))} for _ in range(20)]}


async def check(world: World) -> None:
    """Tell the published stories; then send requests with one mistake each."""
    _, url = await world.serve()
    real = await world.api()
    file, accepted, failures = world.file.name, 0, []
    for method, path, status, body in stories():
        response = await world.call(method, url + path)
        if response.status != status or (status < 300 and response.body != body):
            failures.append(
                Fail(
                    f"{method} {path} gets {status} {json.dumps(body)}",
                    f"a story of contract/examples.json: {method} {path} got {response.status}",
                    f"the response is {response.text[:200] or response.error}",
                    f"{file}, do_{method}",
                )
            )
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
                    f"{what}: got {ours.status or 'no response'}",
                    f"POST /users/?{query[:200]}",
                    f"{file}, do_POST",
                )
            )
    if not world.faults:
        raise Void("no request had a mistake, so strictness was not tested")
    world.measured = f"{accepted} of {len(cases)}"
    if failures:
        raise failures[0]
