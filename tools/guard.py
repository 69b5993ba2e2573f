"""Ends what `lab.py` started when `lab.py` is gone, even after SIGKILL.

Its standard input is a pipe from `lab.py`, with lines `+PID` (started) and `-PID` (ended). The
system closes it when `lab.py` ends, for whatever reason: then what is left ends too.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

left: set[int] = set()
for line in sys.stdin:
    (left.add if line[0] == "+" else left.discard)(int(line[1:]))
if sys.platform == "win32":
    for pid in left:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True)
else:
    for signum in (signal.SIGTERM, signal.SIGKILL) if left else ():
        for pid in left:
            with contextlib.suppress(OSError):  # it has ended
                os.killpg(pid, signum)
        time.sleep(2 if signum == signal.SIGTERM else 0)
