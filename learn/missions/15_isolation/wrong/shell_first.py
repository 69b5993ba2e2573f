"""Starts the cart from a shell. The shell is process 1, and does not pass SIGTERM on.

Seen: docker stop had to kill the container: exit code 137
"""

import os
import subprocess

CONTAINER = os.environ["CONTAINER"]
IMAGE = os.environ["IMAGE"]

OPTIONS = ["--user", "10001", "--memory", "128m"]
COMMAND = ["sh", "-c", "python -m http.server 8000; echo stopped"]  # stands for the cart

subprocess.run(
    ["docker", "run", "--detach", "--name", CONTAINER, *OPTIONS, IMAGE, *COMMAND], check=True
)
