"""One virtual environment for each service, created or updated only when needed."""

import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from tools.machine import ROOT, TABLES, WINDOWS, LabError, clean_environment, cure_for, run_quietly
from tools.processes import run, say

UV_LOCK = ROOT / "tools" / "requirements.txt"
PLATFORM = (sys.platform, platform.machine().lower())
THIS_SYSTEM = "-".join(TABLES["aliases"].get(name, name) for name in PLATFORM)


def environment(folder: Path, *locks: str) -> str:
    """Return a Python in a folder's `.venv` that has these locks, at least. Raises LabError."""
    venv = folder / ".venv"
    python = venv / ("Scripts/python.exe" if WINDOWS else "bin/python")
    wanted = [hashlib.sha256((folder / lock).read_bytes()).hexdigest() for lock in locks]
    # A module of the environment prints what is installed there; a broken one cannot.
    installed = run_quietly(str(python), "-I", "-m", "lab_locks").split()
    if {*wanted} <= {*installed}:
        return str(python)
    uv = find_uv()
    if not installed or not (uv or run_quietly(str(python), "-m", "pip", "--version")):
        remove(venv)
        create = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        progress(f"{folder.name}: virtual environment", [*create, str(venv)])
    (packages,) = (*venv.glob("lib/*/site-packages"), *venv.glob("Lib/site-packages"))[:1]
    (packages / "lab_locks.py").unlink(missing_ok=True)  # until everything is installed
    pip = [str(python), *TABLES["pip"], "install"]
    pip = [uv, "pip", "install", "--python", str(python)] if uv else pip
    files = [f"--requirement={folder / lock}" for lock in locks]
    label = f"{folder.name}: installing{' from the bundle' if source() else ''}"
    progress(label, [*pip, *TABLES["checks"], *source(), *files])
    (packages / "lab_locks.py").write_text(f"print({' '.join(wanted)!r})\n")
    return str(python)


def remove(path: Path) -> bool:
    """Delete a file, a link or a folder with its content; return whether it was there."""
    there = path.is_symlink() or path.exists()
    delete = shutil.rmtree if path.is_dir() and not path.is_symlink() else os.remove
    if there:
        delete(path)
    return there


@cache
def find_uv(bring: bool = True) -> str:
    """Return the path of uv: the user's, or one that pip brings into `.lab`; empty: use pip."""
    folder = ROOT / ".lab" / "uv"
    known = (os.environ.get("UV"), shutil.which("uv"), *map(str, folder.glob("*/uv*")))
    for uv in filter(None, known):
        version = re.match(r"uv (\d+)\.(\d+)", run_quietly(uv, "--version"))
        if version and [int(version[1]), int(version[2])] >= TABLES["oldest_uv"]:
            return uv
    if not bring:
        return ""
    into = ["install", "--retries=2", f"--target={folder}", f"--requirement={UV_LOCK}"]
    get = [sys.executable, *TABLES["pip"], *into, *TABLES["checks"], *source()]
    progress("uv: installing", get, may_fail="lacks pip|for this Python|^\n")  # then pip installs
    return find_uv(bring=False)


def source() -> list[str]:
    """Return the options that make pip and uv take packages from a bundle, if there is one."""
    folder = ROOT / "bundle" / THIS_SYSTEM
    return ["--no-index", f"--find-links={folder}"] if folder.is_dir() else []


def bundle(system: str | None, python: str | None) -> int:
    """Download what `up` installs on a system with a version of Python, for use without network."""
    system, version = system or THIS_SYSTEM, python or f"3.{sys.version_info.minor}"
    if system not in TABLES["systems"]:
        raise LabError(f"--system is one of {', '.join(TABLES['systems'])}, not {system}")
    name, *tags = TABLES["systems"][system]
    folder = ROOT / "bundle" / system
    part = folder.with_name(f"{system}.part")  # until it is complete
    part.mkdir(parents=True, exist_ok=True)
    pins, both = part / "requirements.txt", [f"--python-version={version}", "--no-deps"]
    choose = [find_uv() or "uv", *TABLES["compile"], f"--python-platform={name}", *both]
    choose += [f"--python={sys.executable}", f"--output-file={pins}"]
    download = [sys.executable, *TABLES["pip"], "download", *TABLES["checks"], *both, *tags]
    download += [f"--dest={part}", f"--requirement={pins}"]
    for lock in (UV_LOCK, *(ROOT / each / "requirements.txt" for each in TABLES["services"])):
        progress(f"{lock.parent.name}: choosing packages for {system}", [*choose, str(lock)])
        progress(f"{lock.parent.name}: downloading", download)
    remove(folder)
    part.rename(folder)
    say(f"{folder} is complete: copied with this checkout, `lab.py up` there needs no network")
    return 0


@cache
def places() -> dict[str, str]:
    """Return variables that tell pip and uv where packages are, as the user told pip."""
    rows = run_quietly(sys.executable, "-m", "pip", "config", "list")
    pairs = re.findall(r"^[^.]+\.([a-z-]+)=('.*'|\".*\")$", rows, re.M)
    told = {key: str(ast.literal_eval(value)) for key, value in reversed(pairs)}  # variables first
    names = {key: f"PIP_{key.upper().replace('-', '_')}" for key in told}
    found = {names[key]: told[key] for key in told if re.match(TABLES["places"], names[key])}
    for key, variable in TABLES["uv"].items():
        if key in told and variable not in os.environ:
            found[variable] = ("," if key == "find-links" else " ").join(told[key].split())
    # The files are checked by their hashes, so any index may have them.
    return {**found, "PIP_CONFIG_FILE": os.devnull, "UV_INDEX_STRATEGY": "unsafe-best-match"}


def progress(label: str, command: list[str], may_fail: str = "^$") -> None:
    """Run a long command. Raises LabError, unless `may_fail` is in the reason, and Stopped."""
    started_at = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        more = {"env": {**clean_environment(), **places()}, "stderr": subprocess.STDOUT}
        code = run(command, ROOT, label, stdin=subprocess.DEVNULL, stdout=output, **more)
        output.seek(0)
        text = output.read()
    why = cure_for(text) or "\n" + "\n".join(text.splitlines()[-15:])
    if code and not re.search(may_fail, why):
        raise LabError(f"{label} failed: {why}")
    say(f"{label}: {'not possible' if code else 'done'} in {time.monotonic() - started_at:.1f} s")
