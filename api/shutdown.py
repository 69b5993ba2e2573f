"""How the process stops: it says "not ready", still responds for some seconds, then ends.

A load balancer or Kubernetes sends requests until its next probe of /ready. If the process ended at
once, these requests would be lost.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from types import FrameType


class Shutdown:
    """Knows whether the process is stopping, and drains it before it stops."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds  # from SIGTERM until the server stops
        self.stopping = threading.Event()  # set when SIGTERM has arrived

    def drain_on_sigterm(self) -> None:
        """On SIGTERM say "not ready", and pass the signal to the server `drain_seconds` later.

        Call this when the server has set its own handler. Ctrl-C still ends the process at once.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # a server in a test's thread, which gets no signals
        loop = asyncio.get_running_loop()
        stop_server = signal.getsignal(signal.SIGTERM)

        def drain(signum: int, frame: FrameType | None) -> None:
            self.stopping.set()
            if callable(stop_server):
                loop.call_soon_threadsafe(
                    loop.call_later, self._drain_seconds, stop_server, signum, frame
                )

        signal.signal(signal.SIGTERM, drain)


def stop_supervisor() -> None:
    """End the parent process: else it would restart this worker with the same mistake forever."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None and supervisor.pid is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
