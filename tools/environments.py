"""One virtual environment for each service, as one would make it by hand, made only when needed."""

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

from tools.processes import (
    OWN_GROUP,
    WINDOWS,
    LabError,
    Stopped,
    asked_to_stop,
    end,
    forward,
    run_quietly,
    say,
)


def environment(folder: Path, *locks: str) -> str:
    """Return the Python of a folder's `.venv`, made and installed into where that is needed.

    The file `.venv/lab-locks.txt` holds the digests of the lock files that are installed. An
    environment that another version of Python made is made anew.
    """
    venv = folder / ".venv"
    python = venv / ("Scripts/python.exe" if WINDOWS else "bin/python")
    stamp = venv / "lab-locks.txt"
    digests = {lock: hashlib.sha256((folder / lock).read_bytes()).hexdigest() for lock in locks}
    ours = python.exists() and version_of(venv) == sys.version_info[:2]
    installed = stamp.read_text().split() if stamp.exists() and ours else []
    missing = [lock for lock in locks if digests[lock] not in installed]
    if not missing:
        return str(python)
    if not ours or "pip" not in run_quietly(str(python), "-m", "pip", "--version"):
        progress(
            f"{folder.name}: virtual environment",
            [sys.executable, "-m", "venv", "--clear", str(venv)],
        )
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    pip += [f"--requirement={folder / lock}" for lock in locks]
    packages = sum(
        len(re.findall("^[a-z].*==", (folder / lock).read_text(), re.M | re.I)) for lock in locks
    )
    progress(f"{folder.name}: installing", pip, packages)
    stamp.write_text("\n".join(digests.values()) + "\n")
    return str(python)


def version_of(venv: Path) -> tuple[int, ...]:
    """Return the version of Python that made a virtual environment, such as (3, 11)."""
    made = venv / "pyvenv.cfg"
    lines = made.read_text(encoding="utf-8") if made.exists() else ""
    found = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", lines, re.M)
    return tuple(map(int, found.groups())) if found else ()


def progress(label: str, command: list[str], packages: int = 0) -> None:
    """Run a long command, telling now and then that it moves; raise LabError if it fails."""
    started, told = time.monotonic(), 0.0
    heard: list[str] = []
    live = sys.stdout.isatty()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **OWN_GROUP,
    )
    reader = forward(process, heard.append)
    try:
        while process.poll() is None:
            seconds = time.monotonic() - started
            if seconds - told >= (0.5 if live else 10):
                told = seconds
                done = sum(
                    line.startswith(("Collecting ", "Requirement already")) for line in heard
                )
                count = f" {min(done, packages)} of {packages} packages," if packages else ""
                say(f"{label}:{count} {seconds:.0f} s", again=live)
            if asked_to_stop.wait(0.1):
                raise Stopped
    finally:
        end(process)
        reader.join(timeout=1)
    if process.returncode:
        raise LabError(f"{label} failed:\n" + "\n".join(heard[-15:]))
    say(f"{label}: done in {time.monotonic() - started:.0f} s", again=live)
    if live:
        print()
