"""How the process stops: it says "not ready", still responds for some seconds, then ends.

A load balancer or Kubernetes sends requests until its next probe of /ready. If the process ended at
once, these requests would be lost.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

SUPERVISORS = ("uvicorn", "fastapi", "hypercorn", "granian")


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


def fail_start(reason: str) -> NoReturn:
    """Print why the API cannot start, and end the process and its supervisor.

    A supervisor would start the process again, with the same mistake, for ever. It ends with a
    code that is not 0: gunicorn because of code 3, the others because they are killed.
    """
    print(reason, file=sys.stderr, flush=True)
    if any(name in sys.argv[0] for name in SUPERVISORS):
        _signal_supervisor(getattr(signal, "SIGKILL", 2))  # on Windows, it is the exit code
    os._exit(3 if "gunicorn" in sys.modules else 2)


def _signal_supervisor(signum: int) -> None:
    supervisor = multiprocessing.parent_process()
    if supervisor and supervisor.pid:
        os.kill(supervisor.pid, signum)


def refuse_second_worker() -> None:
    """End the start if another process of the same supervisor has the memory store already."""
    if not (multiprocessing.parent_process() or "gunicorn" in sys.modules):
        return
    path = Path(tempfile.gettempdir(), f"user-management-api-{os.getppid()}.lock")
    flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    try:
        lock = os.open(path, flags, 0o600)  # never closed: the lock ends with the process
        if sys.platform == "win32":
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _signal_supervisor(signal.SIGTERM)  # so that it also ends the other worker
        fail_start("DATABASE_URL must be set for more than one worker")
