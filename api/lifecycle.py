"""How the process stops: it says that it is not ready, goes on answering, then ends.

Whoever sends requests here (a load balancer, Kubernetes) finds out by asking /ready now and then.
Were the process to end at once, requests sent before the next probe would be lost.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from types import FrameType


class Lifecycle:
    """Whether the process is on its way out."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self.stopping = False

    def drain_on_sigterm(self) -> None:
        """Let SIGTERM reach the server only `drain_seconds` after it has withdrawn readiness.

        Called when the server's own handler is in place. Ctrl-C still ends the process at once.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # a test's server, which gets no signals
        loop = asyncio.get_running_loop()
        stop_server = signal.getsignal(signal.SIGTERM)

        def drain(signum: int, frame: FrameType | None) -> None:
            self.stopping = True
            if callable(stop_server):
                loop.call_soon_threadsafe(
                    loop.call_later, self._drain_seconds, stop_server, signum, frame
                )

        signal.signal(signal.SIGTERM, drain)


def stop_supervisor() -> None:
    """End the process that would start this worker again and again, for the same mistake."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None and supervisor.pid is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
