"""One virtual environment for each service, created or updated only when needed."""

import ast
import hashlib
import os
import re
import shutil
import sys
import time
from functools import cache
from pathlib import Path

from tools.machine import PLACES, UV_NAMES, clean_environment, cure_for, run_quietly
from tools.processes import PIPED, ROOT, WINDOWS, LabError, Stopped

from tools.processes import end, launch, read_lines, say, stop_requested  # isort: skip

NEEDED_BYTES = 500_000_000  # for the largest environment
OLDEST_UV = (0, 8)
PIP = ["-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
CHECKS = ["--require-hashes", "--only-binary=:all:"]  # nothing is compiled here
BUNDLE = ROOT / "bundle"  # if it is there, packages come from it, and the network is not used


def environment(folder: Path, *locks: str) -> str:
    """Return the path of Python in a folder's `.venv`; install these lock files if needed.

    `.venv/lab-locks.txt` has the digests of the lock files that are installed. An environment
    that does not work, or has another Python version, is created again. Raises LabError.
    """
    venv = folder / ".venv"
    python = venv / ("Scripts/python.exe" if WINDOWS else "bin/python")
    stamp = venv / "lab-locks.txt"
    digests = {lock: hashlib.sha256((folder / lock).read_bytes()).hexdigest() for lock in locks}
    usable = works(venv, python)
    installed = stamp.read_text(errors="replace").split() if usable and stamp.exists() else []
    if all(digest in installed for digest in digests.values()):
        return str(python)
    if (free := shutil.disk_usage(folder).free) < NEEDED_BYTES:
        raise LabError(f"the disk has only {free / 1e6:.0f} MB left: free 1 GB, then start again")
    uv = find_uv()
    if not usable or not (uv or run_quietly(str(python), "-m", "pip", "--version")):
        remove(venv)
        create = [uv, "venv", "--no-project", "--python", sys.executable]
        create = create if uv else [sys.executable, "-m", "venv"]
        progress(f"{folder.name}: virtual environment", [*create, str(venv)])
    stamp.unlink(missing_ok=True)  # until everything is installed
    command = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), *PIP]
    files = [f"--requirement={folder / lock}" for lock in locks]
    origin = "installing from the bundle" if source() else "installing"
    progress(f"{folder.name}: {origin}", [*command, *CHECKS, *source(), *files])
    stamp.write_text("\n".join(digests.values()) + "\n")
    return str(python)


def works(venv: Path, python: Path) -> bool:
    """Return whether a virtual environment runs, and was made for our version of Python."""
    try:
        config = (venv / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    version = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", config, re.M)
    same = version and (int(version[1]), int(version[2])) == sys.version_info[:2]
    return bool(same and run_quietly(str(python), "-I", "-c", "print('runs')"))


def remove(path: Path) -> bool:
    """Delete a file, a link or a folder with its content; return whether it was there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    there = path.is_symlink() or path.exists()
    path.unlink(missing_ok=True)
    return there


def uv_here() -> str:
    """Return the path of a uv that is new enough, or an empty text."""
    brought = map(str, (ROOT / ".lab" / "uv").glob("*/uv*"))
    for uv in filter(None, (os.environ.get("UV"), shutil.which("uv"), *brought)):
        version = re.match(r"uv (\d+)\.(\d+)", run_quietly(uv, "--version"))
        if version and (int(version[1]), int(version[2])) >= OLDEST_UV:
            return uv
    return ""


@cache
def find_uv() -> str:
    """Return the path of uv: the user's, or one that pip brings into `.lab`; empty: use pip."""
    if uv := uv_here():
        return uv
    lock = (ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8")
    pin = ROOT / ".lab" / "uv.txt"
    pin.parent.mkdir(exist_ok=True)
    pin.write_text("".join(re.findall(r"^uv==.*\n(?: +--hash.*\n)+", lock, re.M)))
    options = ["--retries=2", f"--target={pin.with_suffix('')}", f"--requirement={pin}"]
    output = attempt("uv: installing", [sys.executable, *PIP, *CHECKS, *source(), *options])
    if (why := cure_for(output)) and not re.search("lacks pip|for this Python", why):
        raise LabError(f"uv: installing failed: {why}")  # pip would meet the same
    return uv_here()


def source() -> list[str]:
    """Return the options that make pip and uv take packages from the bundle, if there is one."""
    return ["--no-index", f"--find-links={BUNDLE}"] if BUNDLE.is_dir() else []


@cache
def places() -> dict[str, str]:
    """Return variables that tell pip and uv where packages are, as the user told pip."""
    rows = run_quietly(sys.executable, "-m", "pip", "config", "list")
    pairs = re.findall(r"^[^.]+\.([a-z-]+)=('.*'|\".*\")$", rows, re.M)
    told = {key: str(ast.literal_eval(value)) for key, value in reversed(pairs)}
    names = {key: f"PIP_{key.upper().replace('-', '_')}" for key in told}
    found = {names[key]: value for key, value in told.items() if PLACES.match(names[key])}
    found |= {uv: told[key] for key, uv in UV_NAMES.items() if key in told and uv not in os.environ}
    if "UV_FIND_LINKS" in found:
        found["UV_FIND_LINKS"] = ",".join(found["UV_FIND_LINKS"].split())
    # The files are checked by their hashes, so any index may have them.
    return {**found, "PIP_CONFIG_FILE": os.devnull, "UV_INDEX_STRATEGY": "unsafe-best-match"}


def progress(label: str, command: list[str]) -> None:
    """Run a long command. Raises LabError with its reason, and Stopped."""
    if output := attempt(label, command):
        why = cure_for(output) or "\n" + "\n".join(output.splitlines()[-15:])
        raise LabError(f"{label} failed: {why}")


def attempt(label: str, command: list[str]) -> str:
    """Run a long command and report its progress; return its output if it fails. Raises Stopped."""
    started_at, reported_at = time.monotonic(), 0.0
    output: list[str] = []
    live = bool(sys.stdout and sys.stdout.isatty())
    process = launch(command, ROOT, **PIPED, env={**clean_environment(), **places()})
    reader = read_lines(process, output.append)
    try:
        while process.poll() is None:
            seconds = time.monotonic() - started_at
            if seconds - reported_at >= (0.5 if live else 10):
                reported_at = seconds
                say(f"{label}: {seconds:.0f} s  {(output or [''])[-1][:60]}", overwrite=live)
            if stop_requested.wait(0.1):
                raise Stopped
    finally:
        end(process)
        reader.join(timeout=1)
    if process.returncode:
        return "\n".join(output) or f"exit code {process.returncode}"
    say(f"{label}: done in {time.monotonic() - started_at:.1f} s", overwrite=live)
    if live:
        print()
    return ""
