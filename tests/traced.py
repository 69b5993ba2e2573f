"""Run a Python program, and write down which files of its folder run between two signals.

    python traced.py OUTPUT module [ARGUMENT ...]

SIGUSR1 starts the recording (again); SIGUSR2 writes the file names to OUTPUT, a line each.
"""

import runpy
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

seen: set[str] = set()


def record(frame: FrameType, event: str, _: Any) -> None:
    """Note the file of a function that is called, as sys.setprofile wants it."""
    if event == "call":
        seen.add(frame.f_code.co_filename)


def main() -> None:
    """Trace the program in all of its threads."""
    folder, output = Path.cwd(), Path(sys.argv[1])
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(folder))

    def write(*_: Any) -> None:
        ours = sorted(name for name in set(seen) if Path(name).parent == folder)
        part = output.with_suffix(".part")
        part.write_text("".join(f"{Path(name).name}\n" for name in ours))
        part.replace(output)

    signal.signal(getattr(signal, "SIGUSR1"), lambda *_: seen.clear())  # noqa: B009 - not Windows
    signal.signal(getattr(signal, "SIGUSR2"), write)  # noqa: B009
    threading.setprofile(record)
    sys.setprofile(record)
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


main()
