"""When to try again: later and later, and never more often than a sick API can bear."""

import random
from collections.abc import Callable

FIRST_BACKOFF_SECONDS = 0.3
LONGEST_BACKOFF_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 60.0

MOST_TIMES_NORMAL = 1.2
MOST_TOKENS = 5.0
RAREST_RETRY_SECONDS = 30.0
LEARNING_SHARE = 0.1
ROUNDING = 1e-6


def backoff_seconds(faults: int, retry_after_seconds: float = 0.0) -> float:
    """Seconds to wait after so many earlier faults in a row, and at least what the API asked for.

    Exponential with a cap and "equal jitter": half of it fixed, half drawn, so that simulators do
    not come back all at once (Marc Brooker, "Exponential Backoff And Jitter", AWS, 2015).
    """
    ceiling = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(faults, 10))
    jittered = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
    return max(jittered, min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))


class RetryBudget:
    """Tokens for requests: while the API is sick it gets at most 1.2 times its normal load.

    Every request takes a token, and a retry waits until there is one. Tokens come back at 1.2 times
    the normal load. In any t seconds there are at most 5 + 2 * concurrency + 1.2 * normal * t
    requests: a first try and a question about a stored user go on credit. A token bucket, as in
    gRPC's retry throttling (proposal A6), but filled by time: here a call that failed is not
    dropped, it waits.

    A pace slower than a user in 36 seconds gets more than that: a token in 30 seconds, for else
    nobody would notice that the API is back.

    The normal load is that of the schedule, `normal_per_second`. In bulk there is none: it is what
    so many requests at once come to when each takes as long as the last answers did (Little's law),
    and until there was an answer, one in five seconds.
    """

    def __init__(
        self, clock: Callable[[], float], normal_per_second: float | None, concurrency: int = 1
    ) -> None:
        self._clock = clock
        self._in_bulk = normal_per_second is None
        self._concurrency = concurrency
        self._normal_per_second = normal_per_second or 0.0
        longest_seconds = LONGEST_BACKOFF_SECONDS if self._in_bulk else RAREST_RETRY_SECONDS
        self._least_per_second = 1 / longest_seconds
        self._answer_seconds = 0.0
        self._tokens = MOST_TOKENS
        self._counted_at = clock()

    def spend(self) -> None:
        """Take a token for a request, on credit if need be: a first try is not held back."""
        self._tokens = max(self._count() - 1.0, -MOST_TOKENS)

    def wait_seconds(self) -> float:
        """Seconds until a token for a retry is there, if nobody else takes it; 0 if one is."""
        missing = 1.0 - self._count()
        return missing / self._tokens_per_second if missing > ROUNDING else 0.0

    def learn(self, seconds: float) -> None:
        """Take note of how long an answer took; in bulk this tells the normal load."""
        if self._in_bulk:
            share = LEARNING_SHARE if self._answer_seconds else 1.0
            self._answer_seconds += share * (max(seconds, ROUNDING) - self._answer_seconds)
            self._normal_per_second = self._concurrency / self._answer_seconds

    @property
    def _tokens_per_second(self) -> float:
        return max(MOST_TIMES_NORMAL * self._normal_per_second, self._least_per_second)

    def _count(self) -> float:
        now = self._clock()
        gained = (now - self._counted_at) * self._tokens_per_second
        self._tokens, self._counted_at = min(self._tokens + gained, MOST_TOKENS), now
        return self._tokens
