"""Reserves memory. That is a wish for the kernel, and no limit.

Seen: a program took 600 MB in the container, and nothing stopped it
"""

import os
import subprocess

CONTAINER = os.environ["CONTAINER"]
IMAGE = os.environ["IMAGE"]

OPTIONS = ["--user", "10001", "--memory-reservation", "128m", "--init"]
COMMAND = ["python", "-m", "http.server", "8000"]  # stands for the cart

subprocess.run(
    ["docker", "run", "--detach", "--name", CONTAINER, *OPTIONS, IMAGE, *COMMAND], check=True
)
