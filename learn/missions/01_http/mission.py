"""The world and the check of mission 1: the API's own metrics count the calls."""

import re

from learn.missions import Mission, Real
from learn.verdict import Fail, Void
from learn.world import World

MISSION = Mission(
    minutes=10,
    aim="name the methods and the statuses of an HTTP API, and read the status as the result",
    prediction="Which status has the response when an id is taken: 200, 400, 404, 409 or 422?",
    result="The starter ends with an exception at the 409; the solution sees six statuses.",
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

# What the metrics of the API call a call: method, route, status.
CALLS = (
    ("POST", "/users/", "201"),
    ("GET", "/users/{user_id}", "200"),
    ("POST", "/users/", "409"),
    ("PUT", "/users/{user_id}", "422"),
    ("DELETE", "/users/{user_id}", "204"),
    ("GET", "/users/{user_id}", "404"),
)


async def check(world: World) -> None:
    """Run the program; then ask the API which calls it has counted, and which users it has."""
    free, taken = world.random.sample(range(1, 1_000_000), 2)
    url = await world.api()
    grace = {"name": "Grace", "age": 45}
    if world.faults:  # nobody has the id: no 409 is possible
        await world.call("POST", f"{url}/users/", user_id=taken, name="Grace", age=45)
    elif (await world.call("GET", f"{url}/users/{taken}")).status == 404:
        raise Void("nobody has TAKEN_ID, so no conflict is possible")
    program = await world.start(API_URL=url, FREE_ID=str(free), TAKEN_ID=str(taken))
    code = await program.ended(15)
    metrics = (await world.call("GET", f"{url}/metrics")).text
    row = r'api_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\}'
    seen = set(re.findall(row, metrics))
    conflicts = {status for method, _, status in seen if method == "POST"} - {"201"}
    world.measured = ", ".join(sorted(conflicts))
    users = (await world.call("GET", f"{url}/users/")).body
    file = world.file.name
    if users.get(str(taken)) != grace:
        what = "changed" if str(taken) in users else "deleted"
        raise Fail(
            "the other user is still there, unchanged",
            f"the user with TAKEN_ID was {what}",
            f"before: {grace}, now: {users.get(str(taken))}",
            f"{file}: the calls with TAKEN_ID",
        )
    if code:
        raise program.crash(f"it ended with exit code {code}, and not all six calls were sent")
    for method, route, status in CALLS:
        if (method, route, status) not in seen:
            got = sorted(f"{m} {r} {s}" for m, r, s in seen if m == method)
            raise Fail(
                f"one {method} {route} with the status {status}",
                f"no {method} had the status {status}",
                f"the API saw: {', '.join(got) or f'no {method}'}",
                f"{file}: the call with {method}",
            )
    if str(free) in users:
        raise Fail("Ada is deleted at the end", "Ada is still stored", "", f"{file}: DELETE")
