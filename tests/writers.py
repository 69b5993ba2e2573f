"""Clients that write all the time, and know which users the API must have."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from served import Caller, Value

WRITERS = 8
USERS_PER_WRITER = 50
MIN_ACKNOWLEDGED_PER_CYCLE = 20  # a kill without traffic tests nothing


class Writer:
    """A client that creates, updates and deletes its own users, and knows their state."""

    def __init__(self, number: int, dice: random.Random) -> None:
        first = number * USERS_PER_WRITER
        self.number = number
        self.known: dict[int, Value] = dict.fromkeys(range(first, first + USERS_PER_WRITER))
        self.unknown: dict[int, Value] = {}  # the other possible state
        self.acknowledged = 0
        self.requests: dict[str, int] = {}  # id -> status, 0 without a response
        self._dice = dice

    def work(self, port: int, stop: threading.Event) -> None:
        """Write until `stop` is set, or until an outcome is unknown."""
        caller = Caller(port)
        while not stop.is_set() and not self.unknown:
            user_id = self._dice.choice(list(self.known))
            value: Value = (f"w{self.number}-{len(self.requests)}", self._dice.randint(0, 150))
            if self.known[user_id] is None:
                verb = "create"
            elif self._dice.random() < 0.5:
                verb = "update"
            else:
                verb, value = "delete", None
            request_id = f"{self.number}-{len(self.requests)}"
            status = caller.write(verb, user_id, value, request_id)
            self.requests[request_id] = status
            if status:
                assert status == {"create": 201, "update": 200, "delete": 204}[verb]
                self.known[user_id] = value
                self.acknowledged += 1
            else:
                self.unknown[user_id] = value
        caller.close()

    def settle(self, found: Mapping[int, Value]) -> list[str]:
        """Compare with the stored users; return the errors, and accept the unknown outcomes."""
        wrong = []
        for user_id, expected in self.known.items():
            may_be = [expected, self.unknown.get(user_id, expected)]
            if found.get(user_id) not in may_be:
                wrong.append(f"{user_id} is {found.get(user_id)}, not one of {may_be}")
            self.known[user_id] = found.get(user_id)
        self.unknown = {}
        return wrong


class Load:
    """Eight writers at the same time."""

    def __init__(self) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self.dice = random.Random(seed)
        self.writers = [Writer(number, random.Random(seed + number)) for number in range(WRITERS)]

    @property
    def acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self.writers)

    def run(self, port: int, until: Callable[[], None]) -> None:
        """Write until `until` returns, and each writer has its last response, or has lost it."""
        stop = threading.Event()
        failures: list[Exception] = []

        def work(writer: Writer) -> None:
            try:
                writer.work(port, stop)
            except Exception as error:  # an exception in a thread would be lost
                failures.append(error)

        threads = [threading.Thread(target=work, args=(writer,)) for writer in self.writers]
        for thread in threads:
            thread.start()
        try:
            until()
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert not failures

    def check(self, port: int) -> None:
        """Compare the API's users with the acknowledged ones, and its counts with its users."""
        caller = Caller(port)
        responses = caller.call("GET", "/users/"), caller.call("GET", "/stats/ages")
        caller.close()
        listing, stats = (response.body if response else {} for response in responses)
        found = {int(i): (user["name"], user["age"]) for i, user in listing.items()}
        wrong = [line for writer in self.writers for line in writer.settle(found)]
        counts = Counter(str(age) for _, age in found.values())

        assert wrong == []
        assert set(found) <= {i for writer in self.writers for i in writer.known}
        assert stats == {"total": len(found), "ages": dict(counts)}
