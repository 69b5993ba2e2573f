"""Takes root's capabilities away. That is good, but the process is still root.

Seen: process 1 of the container is root (uid 0)
"""

import os
import subprocess

CONTAINER = os.environ["CONTAINER"]
IMAGE = os.environ["IMAGE"]

OPTIONS = ["--cap-drop", "ALL", "--memory", "128m", "--init"]
COMMAND = ["python", "-m", "http.server", "8000"]  # stands for the cart

subprocess.run(
    ["docker", "run", "--detach", "--name", CONTAINER, *OPTIONS, IMAGE, *COMMAND], check=True
)
