"""What clients asked for and were told, and whether one store could have told them that.

A history is linearizable if each operation could have happened at one instant between its call and
its return, one after the other, as a plain dict would have done it. Users do not depend on each
other, so each id is checked by itself.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from time import perf_counter

from served import Caller, Value


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client did with one user."""

    user_id: int
    verb: str  # create, get, update, delete
    value: Value  # what was to be written; what was read
    status: int  # 0 if the outcome is unknown
    called: float  # seconds
    returned: float  # infinity if the outcome is unknown: it may take effect at any time, or never


def operate(caller: Caller, verb: str, user_id: int, value: Value = None) -> Operation:
    """Do one operation and return it with what came of it, and when."""
    called = perf_counter()
    if verb == "get":
        answer = caller.call("GET", f"/users/{user_id}")
        status = 0 if answer is None or answer.status == 503 else answer.status
        value = None
        if answer is not None and status == 200:
            value = (answer.body["name"], answer.body["age"])
    else:
        status = caller.write(verb, user_id, value)
    return Operation(user_id, verb, value, status, called, perf_counter() if status else inf)


def outcomes(state: Value, operation: Operation) -> Iterable[Value]:
    """Yield the state after an operation, if a store in this state could have answered so."""
    there = state is not None
    match operation.verb, operation.status:
        case ("create", 201) if not there:
            yield operation.value
        case ("update", 200) if there:
            yield operation.value
        case ("delete", 204) if there:
            yield None
        case ("create", 409) if there:
            yield state
        case ("update" | "delete", 404) if not there:
            yield state
        case ("get", 200 | 404) if state == operation.value:
            yield state
        case ("create", 0):
            yield state if there else operation.value
        case ("update", 0):
            yield operation.value if there else state
        case ("delete", 0):
            yield None


def violations(history: Iterable[Operation]) -> list[Operation]:
    """Return, for each id whose answers no single store could give, the first that is too much."""
    by_id: dict[int, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.status or operation.verb != "get":  # a read without an answer says nothing
            by_id[operation.user_id].append(operation)
    found = (_first_violation(operations) for operations in by_id.values())
    return [operation for operation in found if operation is not None]


def _first_violation(operations: list[Operation]) -> Operation | None:
    """Search as Wing and Gong do, but follow time and keep every way that is still possible.

    A way is a state, and which of the operations that have not returned yet have taken effect.
    When one returns, each way must have it or be led to it by some order of the pending ones.
    """
    events = [(operation.called, 0, number) for number, operation in enumerate(operations)]
    events += [(o.returned, 1, number) for number, o in enumerate(operations) if o.returned < inf]
    ways: set[tuple[Value, frozenset[int]]] = {(None, frozenset())}
    pending: set[int] = set()
    for _, returns, number in sorted(events):
        if not returns:
            pending.add(number)
            continue
        seen, open_ways = set(ways), list(ways)
        ways = set()
        while open_ways:
            state, done = open_ways.pop()
            if number in done:
                ways.add((state, done - {number}))
                continue
            for other in pending - done:
                for after in outcomes(state, operations[other]):
                    way = (after, done | {other})
                    if way not in seen:
                        seen.add(way)
                        open_ways.append(way)
        if not ways:
            return operations[number]
        pending.discard(number)
    return None
