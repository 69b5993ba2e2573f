"""The newest answer of the API, fetched at most once in a period however many viewers look.

Periods of one length are the same for all: they begin at its multiples, on one clock. A fetch runs
in a thread of its own, so a slow or silent API never holds up a page.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from faults import ApiFault
from settings import Settings

TICK_SECONDS = 2
HISTORY_SECONDS = 300

now = time.monotonic  # the clock of all pages, which a test moves by hand

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest(Generic[T]):
    """What is known now, by the clock in seconds.

    `history` are the good answers of the last HISTORY_SECONDS, each with when it came, the last
    good one of all at its end. While all is well `fault` is None; `pending` tells that a request
    is under way.
    """

    history: tuple[tuple[float, T], ...]
    fault: ApiFault | None
    pending: bool
    seen_at: float

    @property
    def answer(self) -> T | None:
        """The last good answer, or None before the first one."""
        return self.history[-1][1] if self.history else None

    @property
    def seconds_old(self) -> float:
        """How long ago the last good answer came; infinite before the first one."""
        return now() - self.history[-1][0] if self.history else float("inf")


def is_due(last_at: float | None, every_seconds: float) -> bool:
    """Tell whether a period of `every_seconds` has begun since a time; infinite never ends."""
    return last_at is None or now() // every_seconds != last_at // every_seconds


class Feed(Generic[T]):
    """Asks the API when somebody looks, and remembers the good answers for everybody."""

    def __init__(self, settings: Settings, fetch: Callable[[Settings], T]) -> None:
        self._settings = settings
        self._fetch = fetch
        self._lock = threading.Lock()
        self._idle = threading.Event()  # set while no request is under way
        self._idle.set()
        self._asked_at: float | None = None
        self._history: deque[tuple[float, T]] = deque(maxlen=HISTORY_SECONDS // TICK_SECONDS)
        self._fault: ApiFault | None = None

    def latest(self, wait_seconds: float, every_seconds: float = TICK_SECONDS) -> Latest[T]:
        """Return what is known, after waiting up to `wait_seconds` for a request under way.

        A look starts a request where none was started in this period of `every_seconds`, by whoever
        looked, unless one of before is still under way.
        """
        looked_at = now()  # the answer may come in the next period, and is due then all the same
        with self._lock:
            if self._idle.is_set() and is_due(self._asked_at, every_seconds):
                self._asked_at = now()
                self._idle.clear()
                threading.Thread(target=self._ask, name="feed", daemon=True).start()
        answered = self._idle.wait(wait_seconds)
        with self._lock:
            return Latest(
                history=tuple(self._history),
                fault=self._fault,
                pending=not answered,
                seen_at=looked_at,
            )

    def _ask(self) -> None:
        try:
            self._remember(self._fetch(self._settings))
        except ApiFault as fault:
            self._fail(fault.without_traces())
        except Exception:  # a page that goes on beats a thread that died unseen
            logging.exception("Reading the answer of the API failed.")
            self._fail(
                ApiFault(
                    self._settings.api_url,
                    "The dashboard itself failed while it read the answer.",
                    "Look at what the dashboard wrote in its terminal or log.",
                )
            )
        finally:
            self._idle.set()

    def _fail(self, fault: ApiFault) -> None:
        with self._lock:
            self._fault = fault

    def _remember(self, answer: T) -> None:
        with self._lock:
            self._fault = None
            self._history.append((now(), answer))
            while self._history[0][0] < now() - HISTORY_SECONDS:
                self._history.popleft()
