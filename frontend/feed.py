"""The newest answer of the API, fetched at most once a tick however many viewers look.

A fetch runs in a thread of its own, so a slow or silent API never holds up a page.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from client import ApiFault
from settings import Settings

TICK_SECONDS = 2
HISTORY_SECONDS = 300

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest(Generic[T]):
    """What is known now, by the monotonic clock in seconds.

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
        return time.monotonic() - self.history[-1][0] if self.history else float("inf")


class Feed(Generic[T]):
    """Asks the API when somebody looks, and remembers the good answers for everybody."""

    def __init__(self, settings: Settings, fetch: Callable[[Settings], T]) -> None:
        self._settings = settings
        self._fetch = fetch
        self._lock = threading.Lock()
        self._idle = threading.Event()  # set while no request is under way
        self._idle.set()
        self._tick = -1.0
        self._history: deque[tuple[float, T]] = deque(maxlen=HISTORY_SECONDS // TICK_SECONDS)
        self._fault: ApiFault | None = None

    def latest(self, wait_seconds: float) -> Latest[T]:
        """Return what is known, after waiting up to `wait_seconds` for a request under way.

        The first look in a tick starts a request, unless the one before it is still under way.
        """
        with self._lock:
            now = time.monotonic()
            if self._idle.is_set() and now // TICK_SECONDS != self._tick:
                self._tick = now // TICK_SECONDS
                self._idle.clear()
                threading.Thread(target=self._ask, name="feed", daemon=True).start()
        answered = self._idle.wait(wait_seconds)
        with self._lock:
            return Latest(
                history=tuple(self._history),
                fault=self._fault,
                pending=not answered,
                seen_at=time.monotonic(),
            )

    def _ask(self) -> None:
        try:
            self._remember(self._fetch(self._settings))
        except ApiFault as fault:
            self._fault = fault.without_traces()
        except Exception:  # a page that goes on beats a thread that died unseen
            logging.exception("Reading the answer of the API failed.")
            self._fault = ApiFault(
                self._settings.api_url,
                "The dashboard itself failed while it read the answer.",
                "Look at what the dashboard wrote in its terminal or log.",
            )
        finally:
            self._idle.set()

    def _remember(self, answer: T) -> None:
        now = time.monotonic()
        with self._lock:
            self._fault = None
            self._history.append((now, answer))
            while self._history[0][0] < now - HISTORY_SECONDS:
                self._history.popleft()
