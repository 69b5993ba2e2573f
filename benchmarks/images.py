"""Prints the sizes of the three images, and the memory of their idle containers.

    python3 -m benchmarks.images

A size is what an image adds to its base image, which all three share. The memory is read when the
container is healthy; the simulator then waits for an API that is not there.
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


def docker(*arguments: str) -> str:
    """Run a docker command and return what it prints."""
    return subprocess.run(
        ["docker", *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def megabytes(image: str) -> float:
    """Return the size of an image."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


def pull_base() -> None:
    """Pull the base image: a build does not always add it to the list of images."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        docker("pull", "--quiet", BASE)


def idle_memory(image: str) -> str:
    """Return the memory of a healthy container, as Docker reports it."""
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
    pull_base()
    print("| Image | Adds to its base | Memory when idle |\n|---|---|---|")
    for image, folder in IMAGES.items():
        docker("build", "--quiet", "--tag", image, str(ROOT / folder))
        added = megabytes(image) - megabytes(BASE)
        print(f"| `{image}` | {added:.0f} MB | {idle_memory(image)} |")


if __name__ == "__main__":
    main()
