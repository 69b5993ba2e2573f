"""Lines that are typed at a terminal, while the program goes on."""

import os
import queue
import select
import sys
import threading
import time

from tools.processes import Stopped, stop_requested

PAUSE_SECONDS = 0.2


class Keyboard:
    """The lines that are typed, read by a thread; none without a terminal."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self.present = is_terminal()
        if self.present:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while line := next_line():
            self._lines.put(line.strip())
        self._lines.put("quit")  # Ctrl-D

    def typed(self) -> str | None:
        """Return the next line, or None if there is none now."""
        try:
            return self._lines.get_nowait()
        except queue.Empty:
            return None

    def answer(self) -> str:
        """Wait for a line. Raises Stopped."""
        while (line := self.typed()) is None:
            if stop_requested.wait(0.1):
                raise Stopped
        return line


def is_terminal() -> bool:
    """Return whether somebody can type."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def next_line() -> str:
    """Wait for a line; an empty text is the end."""
    if sys.platform != "win32":
        # A program in the background (`lab.py up &`) that reads its terminal would be stopped.
        while not in_foreground() or not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            time.sleep(0 if in_foreground() else PAUSE_SECONDS)
    return sys.stdin.readline()


def in_foreground() -> bool:
    """Return whether the terminal's input is for this program."""
    try:
        return sys.platform == "win32" or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return True  # it is not the terminal of our session
