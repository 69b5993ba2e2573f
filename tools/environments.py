"""One virtual environment for each service, created or updated only when needed."""

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
    end,
    read_lines,
    run_quietly,
    say,
    stop_requested,
)


def environment(folder: Path, *locks: str) -> str:
    """Return the path of Python in a folder's `.venv`; install these lock files if needed.

    `.venv/lab-locks.txt` has the digests of the lock files that are installed. An environment
    with another Python version is created again.
    """
    venv = folder / ".venv"
    python = venv / ("Scripts/python.exe" if WINDOWS else "bin/python")
    stamp = venv / "lab-locks.txt"
    digests = {lock: hashlib.sha256((folder / lock).read_bytes()).hexdigest() for lock in locks}
    usable = python.exists() and version_of(venv) == sys.version_info[:2]
    installed = stamp.read_text().split() if stamp.exists() and usable else []
    if all(digest in installed for digest in digests.values()):
        return str(python)
    if not usable or "pip" not in run_quietly(str(python), "-m", "pip", "--version"):
        create = [sys.executable, "-m", "venv", "--clear", str(venv)]
        progress(f"{folder.name}: virtual environment", create)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    pip += [f"--requirement={folder / lock}" for lock in locks]
    packages = sum(
        len(re.findall("^[a-z].*==", (folder / lock).read_text(), re.M | re.I)) for lock in locks
    )
    progress(f"{folder.name}: installing", pip, packages)
    stamp.write_text("\n".join(digests.values()) + "\n")
    return str(python)


def version_of(venv: Path) -> tuple[int, ...]:
    """Return the Python version of a virtual environment, such as (3, 11)."""
    config = venv / "pyvenv.cfg"
    lines = config.read_text(encoding="utf-8") if config.exists() else ""
    found = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", lines, re.M)
    return tuple(map(int, found.groups())) if found else ()


def progress(label: str, command: list[str], packages: int = 0) -> None:
    """Run a long command and report its progress. Raises LabError if it fails, or Stopped."""
    started_at, reported_at = time.monotonic(), 0.0
    output: list[str] = []
    live = sys.stdout.isatty()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **OWN_GROUP,
    )
    reader = read_lines(process, output.append)
    try:
        while process.poll() is None:
            seconds = time.monotonic() - started_at
            if seconds - reported_at >= (0.5 if live else 10):
                reported_at = seconds
                done = sum(line.startswith(("Collecting ", "Requirement al")) for line in output)
                count = f" {min(done, packages)} of {packages} packages," if packages else ""
                say(f"{label}:{count} {seconds:.0f} s", overwrite=live)
            if stop_requested.wait(0.1):
                raise Stopped
    finally:
        end(process)
        reader.join(timeout=1)
    if process.returncode:
        raise LabError(f"{label} failed:\n" + "\n".join(output[-15:]))
    say(f"{label}: done in {time.monotonic() - started_at:.0f} s", overwrite=live)
    if live:
        print()
