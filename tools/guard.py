"""Ends the processes of `lab.py` when `lab.py` is gone, even after SIGKILL.

The standard input is a pipe from `lab.py`. Its lines are `+PID` (started) and `-PID` (ended). The
system closes the pipe when `lab.py` ends, whatever ended it: then the processes that are left end.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 2

left: set[int] = set()
for line in sys.stdin:
    (left.add if line[0] == "+" else left.discard)(int(line[1:]))
for pid in left if sys.platform == "win32" else ():
    subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True)
for signum in (signal.SIGTERM, signal.SIGKILL) if sys.platform != "win32" and left else ():
    for pid in left:
        with contextlib.suppress(OSError):  # it has ended
            os.killpg(pid, signum)
    time.sleep(GRACE_SECONDS if signum == signal.SIGTERM else 0)
