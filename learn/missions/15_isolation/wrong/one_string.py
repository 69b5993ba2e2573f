"""Writes an option and its value as one string. Docker looks for an option with that name.

Seen: Docker could not start the container
"""

import os
import subprocess

CONTAINER = os.environ["CONTAINER"]
IMAGE = os.environ["IMAGE"]

OPTIONS = ["--user 10001", "--memory 128m", "--init"]
COMMAND = ["python", "-m", "http.server", "8000"]  # stands for the cart

subprocess.run(
    ["docker", "run", "--detach", "--name", CONTAINER, *OPTIONS, IMAGE, *COMMAND], check=True
)
