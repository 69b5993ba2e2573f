"""Ways to break a machine for `lab.py`."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port

from tools.processes import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="it needs a Unix shell and signals")


def ask(*command: str, folder: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed."""
    variables = {**os.environ, **options.pop("variables", {})}
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, **options
    )


def without_privileges() -> None:
    """Take root's privilege to ignore permissions; for a new process, before its command runs."""
    if sys.platform == "linux":
        drop = 24  # PR_CAPBSET_DROP
        for capability in range(64):
            ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0)


def free_ports() -> list[str]:
    """Return options for ports that are free."""
    return [f"--api-port={free_port()}", f"--dashboard-port={free_port()}"]


def fake_uv(folder: Path, script: str) -> str:
    """Write a `uv` that runs a shell script; return a PATH where it is the first."""
    (folder / "fake").mkdir()
    uv = folder / "fake" / "uv"
    uv.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo uv 9.9.9 && exit\n{script}\n')
    uv.chmod(0o755)
    return f"{uv.parent}{os.pathsep}{os.environ['PATH']}"
