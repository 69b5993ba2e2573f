"""Prints how big the three images are, and how much memory their containers take when idle.

    python3 -m benchmarks.images

Sizes are what an image adds to its base image, which is the same for all three. The memory is read
when the container is healthy; the simulator has no API then and waits for one.
"""

import subprocess
import sys
import time

from tools.processes import ROOT

IMAGES = {
    "user-api": "api",
    "data-simulator": "data_ingestion_simulator",
    "frontend-app": "frontend",
}
BASE = "python:3.13-slim"
HEALTHY_SECONDS = 60


def docker(*words: str) -> str:
    """Run a docker command and return what it prints."""
    return subprocess.run(
        ["docker", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def megabytes(image: str) -> float:
    """Return the size of an image."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


def bring_base() -> None:
    """Have the base image in the list, where a build does not always put it."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        docker("pull", "--quiet", BASE)


def idle_memory(image: str) -> str:
    """Return the memory of a healthy container, as Docker tells it."""
    container = docker("run", "--detach", image)
    try:
        give_up_at = time.monotonic() + HEALTHY_SECONDS
        while docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
            if time.monotonic() > give_up_at:
                sys.exit(f"{image} is not healthy after {HEALTHY_SECONDS} s")
            time.sleep(0.5)
        usage = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container)
        return usage.split(" / ")[0].replace("MiB", " MiB")
    finally:
        docker("rm", "--force", container)


def main() -> None:
    """Build the images and print the table."""
    bring_base()
    print("| Image | Adds to its base | Memory when idle |\n|---|---|---|")
    for image, folder in IMAGES.items():
        docker("build", "--quiet", "--tag", image, str(ROOT / folder))
        added = megabytes(image) - megabytes(BASE)
        print(f"| `{image}` | {added:.0f} MB | {idle_memory(image)} |")


if __name__ == "__main__":
    main()
