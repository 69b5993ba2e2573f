"""The newest answer of the API, fetched at most once a tick however many viewers look.

A fetch runs in a thread of its own, so a slow or silent API never holds up a page.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from client import ApiFault, fetch_age_counts
from schema import AgeCounts
from settings import Settings

TICK_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """What is known now: the last good answer and how old it is, and why there is no newer one.

    Before the first answer `age_counts` is None; while all is well `fault` is None.
    """

    age_counts: AgeCounts | None
    seconds_old: float
    fault: ApiFault | None


class Feed:
    """Asks the API when somebody looks, and remembers the last good answer for everybody."""

    def __init__(
        self, settings: Settings, fetch: Callable[[Settings], AgeCounts] = fetch_age_counts
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._lock = threading.Lock()
        self._idle = threading.Event()  # set while no request is under way
        self._idle.set()
        self._tick = -1.0
        self._answered_at = 0.0
        self._age_counts: AgeCounts | None = None
        self._fault: ApiFault | None = None

    def latest(self, wait_seconds: float) -> Latest:
        """Return what is known, after waiting up to `wait_seconds` for a request under way.

        The first look in a tick starts a request, unless the one before it is still under way.
        """
        with self._lock:
            now = time.monotonic()
            if self._idle.is_set() and now // TICK_SECONDS != self._tick:
                self._tick = now // TICK_SECONDS
                self._idle.clear()
                threading.Thread(target=self._ask, name="feed", daemon=True).start()
        self._idle.wait(wait_seconds)
        with self._lock:
            return Latest(
                age_counts=self._age_counts,
                seconds_old=time.monotonic() - self._answered_at,
                fault=self._fault,
            )

    def _ask(self) -> None:
        try:
            self._remember(self._fetch(self._settings), None)
        except ApiFault as fault:
            # What it was raised from is dropped: its frames would keep the whole answer in memory.
            fault.__cause__ = fault.__context__ = None
            self._remember(None, fault.with_traceback(None))
        except Exception:  # a page that goes on beats a thread that died unseen
            logging.exception("Reading the answer of the API failed.")
            self._remember(None, self._own_fault())
        finally:
            self._idle.set()

    def _remember(self, age_counts: AgeCounts | None, fault: ApiFault | None) -> None:
        with self._lock:
            self._fault = fault
            if age_counts is not None:
                self._age_counts = age_counts
                self._answered_at = time.monotonic()

    def _own_fault(self) -> ApiFault:
        return ApiFault(
            self._settings.statistics_url,
            "The dashboard itself failed while it read the answer.",
            "Look at what the dashboard wrote in its terminal or log.",
        )
