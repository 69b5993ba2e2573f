"""Check that a local port is free; if it is taken, find the program that uses it."""

import argparse
import contextlib
import errno
import re
import socket
from pathlib import Path

from tools.machine import run_quietly
from tools.processes import WINDOWS, LabError


def port_number(text: str) -> int:
    """Return a port number given on the command line."""
    if re.fullmatch("[0-9]{1,5}", text) and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")


def refuse_taken_port(port: int, flag: str) -> None:
    """Raise LabError if a program already listens on a local port; the message names the program.

    This checks ::1, too: some browsers try this address of "localhost" first.
    """
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            taken = is_taken(family, host, port)
        except PermissionError:
            raise LabError(
                f"port {port} may not be used by you: choose another with {flag}"
            ) from None
        if taken:
            holder = holder_of(port)
            raise LabError(
                f"port {port} is taken by {holder}: stop it, or choose another with {flag}"
            )


def is_taken(family: socket.AddressFamily, host: str, port: int) -> bool:
    """Return whether a port is in use. Raises PermissionError if we may not use it."""
    # macOS and Windows let us bind one address although a server listens on all of them.
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    try:
        with socket.socket(family) as probe:
            if not WINDOWS:  # there, this option would let two servers share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except PermissionError:
        raise
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def holder_of(port: int) -> str:
    """Return the program that listens on a local port, or a general text if it is not found."""
    if WINDOWS:
        rows = run_quietly("netstat", "-ano", "-p", "TCP")
        if found := re.search(rf":{port}\s+\S+\s+LISTENING\s+(\d+)", rows):
            row = run_quietly("tasklist", "/FI", f"PID eq {found[1]}", "/FO", "CSV", "/NH")
            return f"{row.split(',')[0].strip(chr(34))} (process {found[1]})"
    elif Path("/proc/net/tcp").exists():
        return holder_in_proc(port)
    else:
        rows = run_quietly("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")
        if found := re.search(r"p(\d+)\nc(.+)", rows):
            return f"{found[2]} (process {found[1]})"
    return "another program"


def holder_in_proc(port: int) -> str:
    """Find the port's socket in Linux's tables, then the process that has this socket open."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    listening = "0A"
    sockets = {
        f"socket:[{row[9]}]"
        for row in rows
        if row[3] == listening and int(row[1].rpartition(":")[2], 16) == port
    }
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process ended, or another user owns it
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parents[1]
                command = (process / "cmdline").read_text().replace("\0", " ").strip()
                return f"`{command[:80]}` (process {process.name})"
    return "another user's program"
