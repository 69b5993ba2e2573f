"""Makes `docker stop` send SIGINT. But the task is about SIGTERM, which other tools send, too.

Seen: docker stop sends another signal: SIGINT
"""

import os
import subprocess

CONTAINER = os.environ["CONTAINER"]
IMAGE = os.environ["IMAGE"]

OPTIONS = ["--user", "10001", "--memory", "128m", "--stop-signal", "SIGINT"]
COMMAND = ["python", "-m", "http.server", "8000"]  # stands for the cart

subprocess.run(
    ["docker", "run", "--detach", "--name", CONTAINER, *OPTIONS, IMAGE, *COMMAND], check=True
)
