"""Which local ports are free, and who holds those that are not."""

import argparse
import contextlib
import errno
import re
import socket
from pathlib import Path

from tools.processes import WINDOWS, LabError, run_quietly


def port_number(text: str) -> int:
    """Return a port number given on the command line."""
    if re.fullmatch("[0-9]{1,5}", text) and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")


def refuse_taken_port(port: int, flag: str) -> None:
    """Raise LabError, naming the program, if something listens on a local port already.

    Also on ::1, the other "localhost", which browsers may try first.
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
    """Return whether an address's port is in use. Raises PermissionError if it is not for us."""
    # macOS and Windows let us bind one address beside somebody who listens on all of them.
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    try:
        with socket.socket(family) as probe:
            if not WINDOWS:  # where this option would let two servers share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except PermissionError:
        raise
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def holder_of(port: int) -> str:
    """Return who listens on a local port, as well as this system tells."""
    if WINDOWS:
        found = re.search(
            rf":{port}\s+\S+\s+LISTENING\s+(\d+)", run_quietly("netstat", "-ano", "-p", "TCP")
        )
        if found:
            row = run_quietly("tasklist", "/FI", f"PID eq {found[1]}", "/FO", "CSV", "/NH")
            return f"{row.split(',')[0].strip(chr(34))} (process {found[1]})"
    elif Path("/proc/net/tcp").exists():
        return holder_in_proc(port)
    else:
        found = re.search(
            r"p(\d+)\nc(.+)", run_quietly("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")
        )
        if found:
            return f"{found[2]} (process {found[1]})"
    return "another program"


def holder_in_proc(port: int) -> str:
    """Return who listens on a port, from Linux's list of sockets and each process's open files."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    if Path("/proc/net/tcp6").exists():
        rows += Path("/proc/net/tcp6").read_text().splitlines()[1:]
    columns = [row.split() for row in rows]
    listening = "0A"
    sockets = {
        f"socket:[{row[9]}]"
        for row in columns
        if row[3] == listening and int(row[1].rpartition(":")[2], 16) == port
    }
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or it is somebody else's
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parents[1]
                words = (process / "cmdline").read_text().replace("\0", " ").strip()
                return f"`{words[:80]}` (process {process.name})"
    return "another user's program"
