"""Limits the memory, but to more than the task allows.

Seen: the memory that the container may use: 512 MB
"""

import os
import subprocess

CONTAINER = os.environ["CONTAINER"]
IMAGE = os.environ["IMAGE"]

OPTIONS = ["--user", "10001", "--memory", "512m", "--init"]
COMMAND = ["python", "-m", "http.server", "8000"]  # stands for the cart

subprocess.run(
    ["docker", "run", "--detach", "--name", CONTAINER, *OPTIONS, IMAGE, *COMMAND], check=True
)
