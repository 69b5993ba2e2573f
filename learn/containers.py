"""Docker, for the missions that need it."""

import asyncio
import os
import re
from typing import Any

from learn.verdict import Void

IMAGE = "python:3.13-slim"  # the image from which those of our services are built
VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG")


def docker_variables() -> Any:
    """Return the user's variables that the command `docker` needs."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


async def run(*command: str, seconds: float = 30, **variables: str) -> tuple[int, str]:
    """Run a command; return its exit code and output. It is 127 if there is no such command."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 127, str(error)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        return 124, f"no result after {seconds:g} s"
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output.decode(errors="replace"))  # colors
    return process.returncode or 0, text.strip()


async def docker(*arguments: str, seconds: float = 30) -> tuple[int, str]:
    """Run a command of Docker; return its exit code and output."""
    return await run("docker", *arguments, seconds=seconds)


async def require_docker() -> None:
    """Raise Void, with a sentence for the learner, unless Docker and the image are there."""
    code, _ = await docker("version", "--format", "{{.Server.Version}}", seconds=10)
    if code:
        raise Void("this mission needs Docker: start Docker, or install it, and check again")
    code, _ = await docker("image", "inspect", IMAGE)
    if code:
        raise Void(f"this mission needs an image of Docker: run `docker pull {IMAGE}` once")


async def remove_old(prefix: str) -> None:
    """Remove what a killed check has left: containers and networks that are minutes old."""
    form = "{{.ID}} {{.RunningFor}}"
    _, listed = await docker("ps", "--all", "--filter", f"name={prefix}", "--format", form)
    ages = {"minutes", "hours", "days", "weeks", "months"}
    old = [line.split()[0] for line in listed.splitlines() if ages & set(line.split())]
    if old:
        await docker("rm", "--force", *old)
        _, networks = await docker("network", "ls", "--quiet", "--filter", f"name={prefix}")
        await docker("network", "rm", *networks.split())  # not those that are in use
