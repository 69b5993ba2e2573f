"""A history of operations and their results, and whether a single store can explain it.

A history is linearizable if each operation could have happened at one instant between its call and
its return, one after the other, as in a plain dict. Users do not depend on each other, so each id
is checked alone.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from time import perf_counter

from served import Caller, Value


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a client on one user."""

    user_id: int
    verb: str  # create, get, update, delete
    value: Value  # the written value; of a get, the value that was read
    status: int  # 0 if the outcome is unknown
    called: float  # seconds
    returned: float  # infinity if the outcome is unknown: its effect may come late, or never


def operate(caller: Caller, verb: str, user_id: int, value: Value = None) -> Operation:
    """Do one operation and return it with its result and its times."""
    called = perf_counter()
    if verb == "get":
        response = caller.call("GET", f"/users/{user_id}")
        status = 0 if response is None or response.status == 503 else response.status
        value = None
        if response is not None and status == 200:
            value = (response.body["name"], response.body["age"])
    else:
        status = caller.write(verb, user_id, value)
    return Operation(user_id, verb, value, status, called, perf_counter() if status else inf)


def outcomes(state: Value, operation: Operation) -> Iterable[Value]:
    """Yield the state after an operation, if a store in this state can give its result."""
    exists = state is not None
    match operation.verb, operation.status:
        case ("create", 201) if not exists:
            yield operation.value
        case ("update", 200) if exists:
            yield operation.value
        case ("delete", 204) if exists:
            yield None
        case ("create", 409) if exists:
            yield state
        case ("update" | "delete", 404) if not exists:
            yield state
        case ("get", 200 | 404) if state == operation.value:
            yield state
        case ("create", 0):
            yield state if exists else operation.value
        case ("update", 0):
            yield operation.value if exists else state
        case ("delete", 0):
            yield None


def violations(history: Iterable[Operation]) -> list[Operation]:
    """Return the first impossible operation of each id that no single store can explain."""
    by_id: dict[int, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.status or operation.verb != "get":  # a read without a response proves nothing
            by_id[operation.user_id].append(operation)
    found = (_first_violation(operations) for operations in by_id.values())
    return [operation for operation in found if operation is not None]


def _first_violation(operations: list[Operation]) -> Operation | None:
    """Search like Wing and Gong (1993), but in the order of time, and keep all possible worlds.

    A world is a state, and the set of pending operations that already had their effect. When an
    operation returns, each world must contain its effect, or reach it by an order of pending ones.
    """
    events = [(operation.called, 0, number) for number, operation in enumerate(operations)]
    events += [(o.returned, 1, number) for number, o in enumerate(operations) if o.returned < inf]
    worlds: set[tuple[Value, frozenset[int]]] = {(None, frozenset())}
    pending: set[int] = set()
    for _, returns, number in sorted(events):
        if not returns:
            pending.add(number)
            continue
        seen, open_worlds = set(worlds), list(worlds)
        worlds = set()
        while open_worlds:
            state, done = open_worlds.pop()
            if number in done:
                worlds.add((state, done - {number}))
                continue
            for other in pending - done:
                for after in outcomes(state, operations[other]):
                    world = (after, done | {other})
                    if world not in seen:
                        seen.add(world)
                        open_worlds.append(world)
        if not worlds:
            return operations[number]
        pending.discard(number)
    return None
